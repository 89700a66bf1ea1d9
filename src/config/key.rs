//! What is known about a setting besides its value, and the macro that turns the table into types.
//!
//! A key's name follows from the place of its field (`server.port` from `Config::server`, `Server::port`), its
//! environment name from the key, its unit from the last word (`-ms`, `-bytes`): nothing is written twice.

use std::{ops::RangeInclusive, sync::LazyLock};

use super::{
    Config,
    value::{Setting, Unit, ValueError},
};

/// One setting: its names, what it means, how to read and write it.
pub struct Key {
    /// Dotted name, as in the file: `server.port`.
    pub name: String,
    /// Environment names, the one that wins first.
    pub environment: Vec<String>,
    /// One sentence for people.
    pub doc: &'static str,
    /// Allowed values, in the setting's unit; durations in milliseconds.
    range: Option<RangeInclusive<u128>>,
    unit: Unit,
    get: fn(&Config) -> &dyn Setting,
    get_mut: fn(&mut Config) -> &mut dyn Setting,
}

/// Every setting, in the order of the table.
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(super::table::build_keys);
    &KEYS
}

/// What a line of the table says.
pub(super) struct Line {
    pub(super) group: &'static str,
    pub(super) field: &'static str,
    pub(super) leaf: Option<&'static str>,
    pub(super) aliases: &'static [&'static str],
    pub(super) doc: &'static str,
    pub(super) range: Option<RangeInclusive<u128>>,
    pub(super) get: fn(&Config) -> &dyn Setting,
    pub(super) get_mut: fn(&mut Config) -> &mut dyn Setting,
}

impl Key {
    pub(super) fn new(line: Line) -> Key {
        let leaf = line.leaf.map_or_else(|| line.field.replace('_', "-"), str::to_owned);
        let name = match line.group {
            "" => leaf,
            group => format!("{}.{leaf}", group.replace('_', "-")),
        };
        let own = format!("NANOFAAS_{}", name.replace(['.', '-'], "_").to_uppercase());
        let aliases = line.aliases.iter().map(|alias| (*alias).to_owned());
        Key {
            unit: Unit::of(&name),
            environment: std::iter::once(own).chain(aliases).collect(),
            doc: line.doc.trim(),
            range: line.range,
            get: line.get,
            get_mut: line.get_mut,
            name,
        }
    }

    /// Reads `text` into this setting of `config`.
    ///
    /// # Errors
    /// When the text is not a value of the setting's type, or outside its range; the setting is then unchanged.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), ValueError> {
        let mut changed = config.clone();
        (self.get_mut)(&mut changed).set(text.trim(), self.unit)?;
        let magnitude = (self.get)(&changed).magnitude();
        if let (Some(range), Some(value)) = (&self.range, magnitude)
            && !range.contains(&value)
        {
            return Err(ValueError::out_of_range(text, range, (self.get)(config), self.unit));
        }
        *config = changed;
        Ok(())
    }

    /// The value for people; `None` when the setting is unset.
    pub fn show(&self, config: &Config) -> Option<String> {
        (self.get)(config).show(self.unit)
    }

    /// The value for programs: a number, a boolean, a text, a list or null.
    pub fn json(&self, config: &Config) -> serde_json::Value {
        (self.get)(config).json(self.unit)
    }

    /// Whether the setting takes several values.
    pub fn is_list(&self) -> bool {
        (self.get)(&Config::default()).is_list()
    }
}

/// Turns the table into [`Config`], its groups, their defaults and the list of keys.
///
/// A line is `/// doc`, `field: Type = default`, then optionally `, leaf "name"` (when the key's last part is not
/// the field's name), `, env "ALIAS"` and `, in low..=high`.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        root { $(
            $(#[doc = $rdoc:literal])+
            $rfield:ident : $rty:ty = $rdefault:expr $(, leaf $rleaf:literal)? $(, env $renv:literal)* $(, in $rrange:expr)? ;
        )* }
        $(
            $(#[doc = $gdoc:literal])+
            $group:ident : $Group:ident { $(
                $(#[doc = $doc:literal])+
                $field:ident : $ty:ty = $default:expr $(, leaf $leaf:literal)? $(, env $env:literal)* $(, in $range:expr)? ;
            )* }
        )*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $( $(#[doc = $rdoc])+ pub $rfield: $rty, )*
            $( $(#[doc = $gdoc])+ pub $group: $Group, )*
        }

        $(
            $(#[doc = $gdoc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Group {
                $( $(#[doc = $doc])+ pub $field: $ty, )*
            }
        )*

        impl Default for Config {
            fn default() -> Config {
                Config {
                    $( $rfield: $rdefault, )*
                    $( $group: $Group { $( $field: $default, )* }, )*
                }
            }
        }

        pub(super) fn build_keys() -> Vec<$crate::config::Key> {
            use $crate::config::key::{Key, Line};
            vec![
                $( Key::new(Line {
                    group: "",
                    field: stringify!($rfield),
                    leaf: None $(.or(Some($rleaf)))?,
                    aliases: &[$($renv),*],
                    doc: concat!($($rdoc),+),
                    range: None $(.or(Some($rrange)))?,
                    get: |config| &config.$rfield,
                    get_mut: |config| &mut config.$rfield,
                }), )*
                $( $( Key::new(Line {
                    group: stringify!($group),
                    field: stringify!($field),
                    leaf: None $(.or(Some($leaf)))?,
                    aliases: &[$($env),*],
                    doc: concat!($($doc),+),
                    range: None $(.or(Some($range)))?,
                    get: |config| &config.$group.$field,
                    get_mut: |config| &mut config.$group.$field,
                }), )* )*
            ]
        }
    };
}
pub(super) use settings;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_from_the_fields() {
        let by_name = |name: &str| keys().iter().find(|key| key.name == name).map(|key| &key.environment[..]);
        assert_eq!(by_name("server.port"), Some(&["NANOFAAS_SERVER_PORT".into(), "SERVER_PORT".into()][..]));
        assert_eq!(by_name("data-dir"), Some(&["NANOFAAS_DATA_DIR".into()][..]));
        assert_eq!(
            by_name("admin.runtime-config.enabled"),
            Some(&["NANOFAAS_ADMIN_RUNTIME_CONFIG_ENABLED".into()][..])
        );
        assert_eq!(
            by_name("http-client.read-timeout-ms"),
            Some(&["NANOFAAS_HTTP_CLIENT_READ_TIMEOUT_MS".into()][..])
        );
    }

    #[test]
    fn no_two_keys_share_a_name() {
        let mut names = HashSet::new();
        for key in keys() {
            assert!(names.insert(&key.name), "{} twice", key.name);
            for name in &key.environment {
                assert!(names.insert(name), "{name} twice");
            }
            assert!(!key.doc.is_empty() && !key.doc.contains('\n'), "{}", key.name);
        }
    }

    #[test]
    fn every_default_is_inside_its_range_and_reads_back() {
        let default = Config::default();
        for key in keys() {
            let Some(text) = key.show(&default) else { continue };
            let mut config = Config::default();
            if key.set(&mut config, &text).is_err() {
                panic!("{} does not accept its own default {text}", key.name);
            }
            assert_eq!(config, default, "{}", key.name);
        }
    }

    #[test]
    fn ranges_are_enforced_and_leave_the_value_alone() {
        for (name, text) in [
            ("workers", "0"),
            ("rate.max-per-second", "4294967296"),
            ("defaults.max-retries", "101"),
            ("defaults.timeout-ms", "25h"),
            ("limits.header-bytes", "1KiB"),
            ("server.port", "65536"),
            ("server.port", "-1"),
        ] {
            let key = keys().iter().find(|key| key.name == name).expect("a key of the table");
            let mut config = Config::default();
            assert!(key.set(&mut config, text).is_err(), "{name} = {text}");
            assert_eq!(config, Config::default());
        }
    }
}
