//! Generated headers, checked against a second reading of the specification.

mod header_generator;
mod header_oracle;
mod proxy_headers;
