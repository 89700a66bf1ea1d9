//! The document, and the checks of an answer or an example against its schemas.

use std::{collections::BTreeSet, io::Read};

use serde_json::{Value, json};

use crate::support::{Client, Response, Server, client::encode};

/// Headers that every HTTP answer may have.
const PLAIN_HEADERS: [&str; 5] =
    ["content-length", "transfer-encoding", "content-type", "date", "connection"];

/// An OpenAPI document.
pub(super) struct Document {
    root: Value,
}

impl Document {
    /// The document that a server serves.
    pub(super) fn of(server: &Server) -> Document {
        let text = server.get("/openapi.yaml").text();
        Document { root: serde_saphyr::from_str(&text).expect("YAML") }
    }

    /// Every path and what stands there.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.root["paths"].as_object().expect("paths").iter().map(|(path, item)| (path.as_str(), item))
    }

    /// The methods of a path, upper case.
    pub(super) fn methods(&self, path: &str) -> BTreeSet<String> {
        let item = self.root["paths"][path].as_object().unwrap_or_else(|| panic!("{path} is not described"));
        let methods = item.keys().filter(|key| !["parameters", "servers", "summary"].contains(&key.as_str()));
        methods.map(|method| method.to_uppercase()).collect()
    }

    /// Every path, method and status that is described.
    pub(super) fn answers(&self) -> BTreeSet<(String, String, u16)> {
        let mut answers = BTreeSet::new();
        for (path, item) in self.paths() {
            for method in self.methods(path) {
                for status in item[method.to_lowercase()]["responses"].as_object().expect("responses").keys()
                {
                    answers.insert((path.to_owned(), method.clone(), status.parse().expect("a status")));
                }
            }
        }
        answers
    }

    /// Sends a request to the listener that the document names for this path.
    pub(super) fn send(
        &self,
        server: &Server,
        described: &str,
        request: (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        // Only paths of the management listener have servers of their own.
        let management = self.root["paths"][described].get("servers").is_some();
        let address = if management { server.management } else { server.api };
        Client::connect(address).send(request.0, request.1, headers, body)
    }

    /// Sends a HEAD, whose answer says how long a body would be and has none.
    pub(super) fn head(&self, server: &Server, described: &str, path: &str) -> Response {
        let management = self.root["paths"][described].get("servers").is_some();
        let mut client = Client::connect(if management { server.management } else { server.api });
        client.write(&encode("HEAD", path, &[("connection", "close")], b""));
        let mut text = Vec::new();
        client.stream.read_to_end(&mut text).expect("the answer, and then the end");
        let text = String::from_utf8(text).expect("a head");
        let (head, body) = text.split_once("\r\n\r\n").expect("its end");
        assert_eq!(body, "", "{path}: a body");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Response { status, headers, body: Vec::new() }
    }

    /// Checks an answer against the description: its status, headers, content type and body.
    #[track_caller]
    pub(super) fn check(&self, path: &str, method: &str, answer: &Response) {
        let place = format!("{method} {path} {}", answer.status);
        let operation = &self.root["paths"][path][method.to_lowercase()];
        // An answer to a method that is not described has the shape that all 405 of the path have.
        let operation = if operation.is_null() {
            let other = self.methods(path).first().expect("a method").to_lowercase();
            &self.root["paths"][path][other]
        } else {
            operation
        };
        let described = self.resolve(&operation["responses"][answer.status.to_string()]);
        assert!(described.is_object(), "{place} is not described: {}", answer.text());
        self.check_headers(&place, &described["headers"], answer);
        let Some(contents) = described.get("content").and_then(Value::as_object) else {
            assert!(answer.body.is_empty(), "{place} has a body: {}", answer.text());
            return;
        };
        let media_type = answer.header("content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        // In raw mode the body is the function's own, whatever its type.
        let is_envelope = || {
            serde_json::from_slice::<Value>(&answer.body).is_ok_and(|body| body.get("executionId").is_some())
        };
        let of_execution = answer.header("x-execution-status").is_some();
        let raw = contents.get("*/*").filter(|_| of_execution && !is_envelope());
        let content = raw.or_else(|| contents.get(media_type));
        let content = content.unwrap_or_else(|| panic!("{place} is {media_type}"));
        if raw.is_none() && media_type == "application/json" {
            let body = answer.json();
            self.check_value(&place, &content["schema"], &body);
            self.check_members(&place, &content["schema"], &body);
        }
    }

    fn check_headers(&self, place: &str, described: &Value, answer: &Response) {
        let empty = serde_json::Map::new();
        let described = described.as_object().unwrap_or(&empty);
        for (name, header) in described {
            let header = self.resolve(header);
            match answer.header(&name.to_lowercase()) {
                Some(text) => {
                    let number = text.parse::<u64>().ok().filter(|_| header["schema"]["type"] == "integer");
                    let value = number.map_or_else(|| text.into(), Value::from);
                    self.check_value(&format!("{place} {name}"), &header["schema"], &value);
                }
                None => assert_ne!(header["required"], true, "{place} lacks {name}"),
            }
        }
        for (name, value) in &answer.headers {
            let known = described.keys().any(|described| described.eq_ignore_ascii_case(name));
            assert!(
                known || PLAIN_HEADERS.contains(&name.as_str()),
                "{place} has {name}: {value}, which is not described"
            );
        }
    }

    /// Checks a value against a schema.
    pub(super) fn check_value(&self, place: &str, schema: &Value, value: &Value) {
        assert!(schema.is_object(), "{place} has no schema");
        let mut schema = schema.clone();
        // References start at the root of the document, so the schema gets what they name.
        schema["components"] = json!({ "schemas": self.root["components"]["schemas"] });
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{place}: not a schema: {error}"));
        let errors: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{place}: {errors:#?}\n{value:#}");
    }

    /// Every member of an object is described, at the top level. Schemas alone allow more.
    fn check_members(&self, place: &str, schema: &Value, value: &Value) {
        let mut known = BTreeSet::new();
        self.collect_members(schema, &mut known);
        for member in value.as_object().into_iter().flat_map(|object| object.keys()) {
            assert!(known.contains(member.as_str()), "{place}: {member} is not described");
        }
    }

    fn collect_members<'a>(&'a self, schema: &'a Value, known: &mut BTreeSet<&'a str>) {
        let schema = self.resolve(schema);
        let properties = schema["properties"].as_object();
        known.extend(properties.into_iter().flat_map(|properties| properties.keys()).map(String::as_str));
        for combined in ["allOf", "oneOf"].iter().filter_map(|key| schema[key].as_array()) {
            combined.iter().for_each(|part| self.collect_members(part, known));
        }
    }

    /// A schema by its name.
    pub(super) fn schema(&self, name: &str) -> Value {
        self.root["components"]["schemas"][name].clone()
    }

    /// The members of an object that need not be there.
    pub(super) fn optional_members(&self, schema: &str) -> Vec<String> {
        let schema = self.schema(schema);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let members = schema["properties"].as_object().expect("properties").keys();
        members.filter(|member| !required.contains(&member.as_str().into())).cloned().collect()
    }

    /// Checks every example against the schema that it stands beside; says how many there are.
    pub(super) fn check_examples(&self) -> usize {
        let mut count = 0;
        self.check_examples_below("", &self.root, &mut count);
        count
    }

    fn check_examples_below(&self, place: &str, node: &Value, count: &mut usize) {
        let mut check = |schema: &Value, value: &Value| {
            *count += 1;
            self.check_value(place, schema, value);
        };
        if let Some(schema) = node.get("schema") {
            if let Some(example) = node.get("example") {
                check(schema, example);
            }
            for example in node.get("examples").and_then(Value::as_object).into_iter().flatten() {
                check(schema, &example.1["value"]);
            }
        }
        for example in node.get("examples").and_then(Value::as_array).into_iter().flatten() {
            check(node, example);
        }
        match node {
            Value::Object(members) => members
                .iter()
                .filter(|(key, _)| !["example", "examples", "value"].contains(&key.as_str()))
                .for_each(|(key, node)| self.check_examples_below(&format!("{place}/{key}"), node, count)),
            Value::Array(items) => {
                items.iter().for_each(|node| self.check_examples_below(place, node, count));
            }
            _ => {}
        }
    }

    /// Follows a reference, if it is one.
    fn resolve<'a>(&'a self, node: &'a Value) -> &'a Value {
        match node.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let pointer = reference.trim_start_matches('#');
                self.root.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
            }
            None => node,
        }
    }
}
