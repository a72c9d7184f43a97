//! `tls_greeter` with openssl, curl and netcat.

use support::process::shell::shell;

use crate::programs::start_example;

#[test]
#[ignore = "needs openssl, curl and nc"]
fn openssl_and_curl_are_greeted_and_get_close_notify() {
    let (server, at) = start_example(env!("CARGO_BIN_EXE_tls_greeter"), &["127.0.0.1:0"]);
    for version in ["-tls1_2", "-tls1_3"] {
        // Without `close_notify` openssl prints "unexpected eof" and fails.
        let output = shell(&format!("echo hello | openssl s_client -quiet {version} -connect {at} 2>/dev/null"));
        assert_eq!(output, "Hello, TLS Client!\n", "{version}");
    }
    let ciphers = shell(&format!("echo | openssl s_client -ign_eof -connect {at}"));
    assert!(ciphers.contains("TLSv1.3") && !ciphers.contains("unexpected eof"), "{ciphers}");
    assert_eq!(shell(&format!("curl -sSk --http0.9 https://{at}")), "Hello, TLS Client!\n");
    server.stdout.wait_for_text("Received: hello\\n\n");
    server.stdout.wait_for_text("Received: GET / HTTP/1.1\\r\\n");

    // A client without TLS gets an alert, and other clients are still served.
    let alert = shell(&format!("echo 'Hello, TCP Server!' | nc -N {} {} | od -An -tx1", at.ip(), at.port()));
    assert_eq!(alert.split_whitespace().next(), Some("15"), "{alert}");
    assert_eq!(shell(&format!("curl -sSk --http0.9 https://{at}")), "Hello, TLS Client!\n");
}

#[test]
fn the_recipe_quotes_the_example() {
    let recipes = include_str!("../../../../docs/recipes.md");
    let quotes: Vec<&str> =
        recipes.split("```rust,ignore\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(quotes.len(), 1, "the recipe for TLS");
    let example = include_str!("../../src/bin/tls_greeter.rs");
    assert!(example.contains(quotes[0]), "docs/recipes.md differs from tls_greeter.rs");
}
