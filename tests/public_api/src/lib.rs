//! The public interface of the library, compared with its reviewed text.
//!
//! The test fails unless both are equal. `UPDATE=1 cargo test -p public_api` writes the text, for a new review. The
//! JSON format of rustdoc is unstable: the test needs a compiler that `public-api` supports.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    /// The interface of the library with all features, from rustdoc.
    fn render_interface(root: &Path) -> String {
        let folder = root.join("target/public_api");
        let status = Command::new(env!("CARGO"))
            .current_dir(root)
            // rustdoc writes JSON on unstable compilers only.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["rustdoc", "--quiet", "--locked", "--package", "halloo", "--lib"])
            .args(["--features", "testing", "--target-dir"])
            .arg(&folder)
            .args(["--", "-Z", "unstable-options", "--output-format", "json"])
            .status()
            .expect("cargo is installed");
        assert!(status.success(), "rustdoc failed");
        let interface = public_api::Builder::from_rustdoc_json(folder.join("doc/halloo.json"))
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
            .expect("public-api supports the JSON format of this compiler; a newer version may");
        interface.to_string()
    }

    #[test]
    fn the_public_interface_is_the_reviewed_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = root.join("tests/public_api/public_api.txt");
        let rendered = render_interface(&root);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &rendered).expect("the file can be written");
        }
        let read = std::fs::read_to_string(&path).expect("the reviewed text exists");
        let added: Vec<&str> = rendered.lines().filter(|line| !read.lines().any(|other| other == *line)).collect();
        let removed: Vec<&str> = read.lines().filter(|line| !rendered.lines().any(|other| other == *line)).collect();
        assert!(
            added.is_empty() && removed.is_empty(),
            "new: {added:#?}\ngone: {removed:#?}\nUPDATE=1 writes the text"
        );
    }
}
