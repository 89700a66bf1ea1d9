//! Names of functions as names of objects, and what is attached to objects. Pure.

use std::collections::BTreeMap;

use nanofaas_backends::{FunctionName, JobId, Labels};
use sha2::{Digest, Sha256};

/// Who made it, for everybody.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "nanofaas");
/// Which server's it is: several may share a namespace.
pub const INSTALLATION: &str = "nanofaas.io/installation";
/// Of which function, as far as a label can say that.
pub const FUNCTION: &str = "nanofaas.io/function";
/// What a Pod runs: the version of the function.
pub const VERSION: &str = "nanofaas.io/version";
/// The exact name of the function, as an annotation.
pub const NAME: &str = "nanofaas.io/name";
/// A digest of everything that was applied for the function, as an annotation of its Deployment.
pub const DIGEST: &str = "nanofaas.io/digest";
/// What a Pod is for, when it is no replica.
pub const PURPOSE: &str = "nanofaas.io/purpose";
/// That of Pods that check images, as in the Java original.
pub const PURPOSE_IMAGE_CHECK: &str = "image-validation";
/// The function that an image is checked for, as an annotation. Not [`NAME`], by which replicas are known.
pub const CHECKS_FOR: &str = "nanofaas.io/checks-for";
/// Which run of a server checks it, as an annotation.
pub const CHECKED_BY: &str = "nanofaas.io/checked-by";
/// The id of a job, as an annotation of its Job and Pod. The Pod has not [`NAME`], by which replicas are known.
pub const JOB: &str = "nanofaas.io/job";
/// The execution that a job is for, as an annotation.
pub const EXECUTION: &str = "nanofaas.io/execution";
/// Number of the attempt, as an annotation.
pub const ATTEMPT: &str = "nanofaas.io/attempt";
/// What the server attaches to its functions, each as an annotation with this in front.
const ATTACHED: &str = "labels.nanofaas.io/";
/// Labels that dashboards of the Java original select by.
pub const ORIGINAL: (&str, &str) = ("app", "nanofaas");
/// The same, with the function.
pub const ORIGINAL_FUNCTION: &str = "function";
/// The same, with the execution of a job.
pub const ORIGINAL_EXECUTION: &str = "executionId";

/// Names of Services are the shortest of all.
const OBJECT_NAME_MAX: usize = 63;
const PREFIX: &str = "fn-";
/// Between a name that had to change and its hash. A name that looks like that has to change itself, so no two are equal.
const HASH_MARK: &str = "--";
const HASH_LEN: usize = 16;

/// What all objects of a function are called.
pub fn object_name(function: &str) -> String {
    format!("{PREFIX}{}", label_value(function))
}

/// What a Pod is called that checks the image of a function.
pub fn image_check_name(function: &str, server: &str, number: u64) -> String {
    format!("check-{}-{server}-{number}", label_value(function))
}

/// What the Job of a job is called, and what belongs to it.
pub fn job_name(job: &JobId) -> String {
    label_value(job.as_str())
}

/// The name of a function as the value of a label, which is also part of a DNS label: as it is, or with a hash.
pub fn label_value(function: &str) -> String {
    if is_plain(function) {
        return function.to_owned();
    }
    let digest = Sha256::digest(function.as_bytes());
    let hash: String = digest[..HASH_LEN / 2].iter().map(|byte| format!("{byte:02x}")).collect();
    let room = OBJECT_NAME_MAX - PREFIX.len() - HASH_MARK.len() - HASH_LEN;
    let to_label = |letter: char| match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '-',
    };
    let text: String = function.chars().take(room).map(to_label).collect();
    format!("{}{HASH_MARK}{hash}", text.trim_matches('-'))
}

/// What the resource of a function is called: as the function, or like its objects when it cannot be.
pub fn resource_name(function: &str) -> String {
    let is_outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(is_outer)
            && bytes.last().is_some_and(is_outer)
            && bytes.iter().all(|byte| is_outer(byte) || *byte == b'-')
    };
    match function.split('.').all(is_label) && !looks_changed(function) {
        true => function.to_owned(),
        false => label_value(function),
    }
}

fn is_plain(function: &str) -> bool {
    let is_outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = function.as_bytes();
    bytes.len() <= OBJECT_NAME_MAX - PREFIX.len()
        && bytes.iter().all(|byte| is_outer(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| is_outer(*byte))
        && bytes.last().is_some_and(|byte| is_outer(*byte))
        && !looks_changed(function)
}

fn looks_changed(function: &str) -> bool {
    let hash = function.rsplit_once(HASH_MARK).map(|(_, hash)| hash);
    hash.is_some_and(|hash| hash.len() == HASH_LEN && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The annotations that keep what the server attaches.
pub fn attached(labels: &Labels) -> impl Iterator<Item = (String, String)> {
    labels.iter().map(|(key, value)| (format!("{ATTACHED}{key}"), value.to_string()))
}

/// What the server attached, as it is found again.
pub fn attached_again(annotations: Option<&BTreeMap<String, String>>) -> Labels {
    let attached = annotations.into_iter().flatten();
    attached
        .filter_map(|(key, value)| Some((key.strip_prefix(ATTACHED)?.into(), value.as_str().into())))
        .collect()
}

/// The function that an object belongs to.
pub fn function_of(annotations: Option<&BTreeMap<String, String>>) -> Option<FunctionName> {
    annotations?.get(NAME).map(|name| name.as_str().into())
}

/// Selects what belongs to an installation.
pub fn selector(installation: &str) -> String {
    format!("{INSTALLATION}={installation},{}={}", MANAGED_BY.0, MANAGED_BY.1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn is_dns_label(name: &str) -> bool {
        let is_outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        bytes.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.last().is_some_and(|byte| is_outer(*byte))
            && bytes.iter().all(|byte| is_outer(*byte) || *byte == b'-')
    }

    #[test]
    fn names_stay_when_they_can() {
        for (function, object) in [
            ("echo", "fn-echo"),
            ("a-b1", "fn-a-b1"),
            ("a--b", "fn-a--b"),
            ("Echo", "fn-echo--3f6d3e8f0bbf1b5a"),
            ("a.b", "fn-a-b--"),
            ("a_", "fn-a--"),
            ("a--0123456789abcdef", "fn-a--0123456789abcdef--"),
        ] {
            let name = object_name(function);
            let expected = if object.ends_with("--") || object.starts_with("fn-echo--") {
                let stem = object.split("--").next().unwrap_or_default();
                name.starts_with(stem) && looks_changed(&name)
            } else {
                name == object
            };
            assert!(expected && is_dns_label(&name), "{function}: {name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_a_label_and_no_two_are_equal(
            names in proptest::collection::btree_set("[a-cA-C][a-cA-C0-1._-]{0,62}", 2..60)
        ) {
            let mut seen = BTreeMap::new();
            // A function that is called like the object of another.
            let twins: Vec<String> = names.iter().map(|name| label_value(name)).filter(|twin| twin.len() <= 63).collect();
            for function in names.into_iter().chain(twins).collect::<std::collections::BTreeSet<_>>() {
                let object = object_name(&function);
                prop_assert!(is_dns_label(&object), "{function}: {object}");
                if let Some(other) = seen.insert(object, function.clone()) {
                    prop_assert!(false, "{function} and {other}");
                }
            }
        }
    }
}
