//! Checks JSON lines against a schema of `server/schemas`.
//!
//! Each schema is a list of kinds of lines (`oneOf`), and every field has a description.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

/// The name under which the validator knows the document.
const DOCUMENT_URL: &str = "urn:halloo:lines";

/// A schema, compiled.
pub(crate) struct LineSchema {
    document: Value,
    schemas: Schemas,
    index: SchemaIndex,
}

impl LineSchema {
    /// Compiles the text of a schema, which has to be valid itself.
    #[track_caller]
    pub(crate) fn new(text: &str) -> Self {
        let document: Value = serde_json::from_str(text).expect("JSON");
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource(DOCUMENT_URL, document.clone()).expect("a document");
        let index = compiler.compile(DOCUMENT_URL, &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Self { document, schemas, index }
    }

    /// The object of a line; fails unless the schema allows it.
    #[track_caller]
    pub(crate) fn check(&self, line: &str) -> Value {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Err(error) = self.schemas.validate(&value, self.index) {
            panic!("{line}\n{error:#}");
        }
        value
    }

    /// The kinds of lines: the definitions that `oneOf` lists.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        let list = self.document["oneOf"].as_array().expect("a list of kinds");
        list.iter().map(|kind| kind["$ref"].as_str().expect("a reference").trim_start_matches("#/$defs/")).collect()
    }

    /// Fails unless the schema refuses a further field in this line, and in each object within it, and unless every
    /// field has a description.
    #[track_caller]
    pub(crate) fn assert_closed(&self, line: &str) {
        let value = self.check(line);
        for place in objects_in(&value, String::new()) {
            let mut changed = value.clone();
            changed.pointer_mut(&place).expect("it was found")["unknown"] = 1.into();
            let result = self.schemas.validate(&changed, self.index);
            assert!(result.is_err(), "a further field is allowed at {place:?} of {line}");
        }
        for (name, definition) in self.document["$defs"].as_object().expect("definitions") {
            for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
                let description = schema["description"].as_str().unwrap_or_default();
                assert!(description.ends_with('.'), "{name}.{field} has no description");
            }
        }
    }
}

/// The places of all objects in a value, as JSON pointers.
fn objects_in(value: &Value, place: String) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let nested = fields.iter().flat_map(|(name, field)| objects_in(field, format!("{place}/{name}")));
            let nested: Vec<String> = nested.collect();
            std::iter::once(place).chain(nested).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(index, item)| objects_in(item, format!("{place}/{index}"))).collect()
        }
        _ => Vec::new(),
    }
}
