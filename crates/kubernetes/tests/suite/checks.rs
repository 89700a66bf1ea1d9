//! Images are checked before anything of their function is made.

use std::time::{Duration, Instant};

use nanofaas_backends::{Backend, BackendError, ImageProblem};

use crate::{
    api_server::Fault,
    rig::{PATIENCE, Rig},
};

/// Pods that were made to check an image.
fn checks(rig: &Rig) -> usize {
    rig.server.count("PATCH /api/v1/namespaces/default/pods/check-f-")
}

#[test]
fn an_image_that_can_be_pulled_is_run() {
    // Runtimes differ in how they say that the command is not there.
    for image in ["i", "late"] {
        let rig = Rig::checking(None, PATIENCE);
        let ensured = rig.ensure(image, 2).unwrap();
        assert_eq!(
            (ensured.replicas.len(), ensured.desired, checks(&rig)),
            (2, 2, 1),
            "{image}: a check is no replica"
        );
        assert_eq!(rig.pods().len(), 2, "the Pod of the check is gone");
        assert_eq!(rig.list().unwrap()[0].replicas.len(), 2);
        // What the function has is not checked again; another image is.
        assert_eq!(rig.ensure(image, 2).unwrap().desired, 2);
        assert_eq!(checks(&rig), 1);
        rig.ensure("j", 2).unwrap();
        assert_eq!(checks(&rig), 2);
        assert_eq!(rig.tear_down(), Ok(()));
        assert!(rig.is_empty());
    }
}

#[test]
fn of_a_function_whose_image_cannot_be_had_nothing_is_made() {
    let rig = Rig::checking(None, PATIENCE);
    for (image, expected) in [
        ("missing", Err(ImageProblem::NotFound)),
        ("secret", Err(ImageProblem::AuthRequired)),
        ("away", Err(ImageProblem::RegistryUnavailable)),
        ("root", Ok("image will run as root")),
    ] {
        let begun = Instant::now();
        match (rig.ensure(image, 1).unwrap_err(), expected) {
            (BackendError::Image { problem, text }, Err(expected)) => {
                assert!(problem == expected && text.contains(image), "{image}: {problem:?} {text}");
            }
            (BackendError::Provisioning(text), Ok(part)) => assert!(text.contains(part), "{text}"),
            (error, _) => panic!("{image}: {error:?}"),
        }
        assert!(begun.elapsed() < PATIENCE / 2, "{image}: not at the time-out");
        assert!(rig.is_empty(), "{image} leaves something");
    }
    assert_eq!(rig.server.count("fieldManager=nanofaas-scaler"), 0, "no Deployment was made");
    assert_eq!(rig.list(), Ok(Vec::new()));
}

#[test]
fn a_check_that_is_refused_says_why() {
    let rig = Rig::checking(None, PATIENCE);
    let sentence = "pods \"check-f\" is forbidden: exceeded quota: tight";
    rig.server.fail(Fault::Refuse("PATCH", "/pods/check-f-", 403, "Forbidden", sentence));
    let Err(BackendError::Provisioning(text)) = rig.ensure("i", 1) else { panic!("it was made") };
    assert!(text.contains(sentence), "{text}");
    assert!(rig.is_empty());
    // What may pass is tried again, also when the Pod is to go.
    rig.server.fail(Fault::Refuse("PATCH", "/pods/check-f-", 429, "TooManyRequests", "again"));
    rig.server.fail(Fault::Refuse("DELETE", "/pods/check-f-", 500, "InternalError", "again"));
    assert_eq!(rig.ensure("i", 1).unwrap().desired, 1);
    assert_eq!(rig.pods().len(), 1);
}

#[test]
fn a_check_has_a_deadline() {
    let rig = Rig::checking(None, Duration::from_millis(300));
    match rig.ensure("slow", 1) {
        Err(BackendError::Image { problem: ImageProblem::RegistryUnavailable, text }) => {
            assert!(text.contains("slow (Timed out waiting for image pull)"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let Err(BackendError::Provisioning(text)) = rig.ensure("large", 1) else { panic!("there is no room") };
    assert!(text.contains("Insufficient memory"), "{text}");
    assert!(rig.is_empty());
}

#[test]
fn a_check_that_somebody_removes_is_over() {
    let rig = Rig::checking(None, PATIENCE);
    rig.submit("slow", 1);
    rig.server.wait_for("pods", 1);
    rig.server.remove("pods", &rig.pods()[0]);
    let Err(BackendError::Provisioning(text)) = rig.ensured() else { panic!("it was made") };
    assert!(text.contains("somebody removed the Pod"), "{text}");
}

#[test]
fn a_check_does_not_outlive_its_order() {
    let rig = Rig::checking(None, PATIENCE);
    rig.submit("slow", 1);
    rig.server.wait_for("pods", 1);
    rig.backend.detach(PATIENCE);
    assert!(matches!(rig.ensured(), Err(BackendError::Unavailable(_))));
    assert!(rig.is_empty());
}

#[test]
fn what_a_server_left_that_was_killed_is_removed_by_the_next_one() {
    let killed = Rig::checking(None, PATIENCE);
    killed.submit("slow", 1);
    killed.server.wait_for("pods", 1);
    let name = killed.pods().remove(0);
    let left = killed.server.object("pods", &name).unwrap();
    killed.backend.detach(PATIENCE);
    let server = killed.server.clone();
    let mut other = left.clone();
    other["metadata"]["labels"]["nanofaas.io/installation"] = "staging".into();
    other["metadata"]["name"] = "check-theirs".into();
    server.put("pods", &name, left);
    server.put("pods", "check-theirs", other);
    let next = Rig::checking(Some(server), PATIENCE);
    next.server.wait_for("pods", 1);
    assert_eq!(next.pods(), ["check-theirs"], "that of another installation stays");
}
