//! The page that plays a recording: one HTML file.

mod page_data;

use std::io::{self, Write};

use halloo::observe::{Finding, Recording};

/// The page without styles, scripts and data. Each has its mark.
const PAGE: &str = include_str!("../../page/page.html");

/// The style sheets, in their order.
const STYLES: &[&str] = &[include_str!("../../page/page.css"), include_str!("../../page/panels.css")];

/// The modules of the script. A module comes after those that its top level uses.
const SCRIPTS: &[&str] = &[
    include_str!("../../page/decode.js"),
    include_str!("../../page/kinds.js"),
    include_str!("../../page/source_places.js"),
    include_str!("../../page/paged_map.js"),
    include_str!("../../page/loop_state.js"),
    include_str!("../../page/replay_steps.js"),
    include_str!("../../page/replay.js"),
    include_str!("../../page/stand_ins.js"),
    include_str!("../../page/formatting.js"),
    include_str!("../../page/keys.js"),
    include_str!("../../page/links.js"),
    include_str!("../../page/navigation.js"),
    include_str!("../../page/search.js"),
    include_str!("../../page/summary.js"),
    include_str!("../../page/theme.js"),
    include_str!("../../page/controls.js"),
    include_str!("../../page/player.js"),
    include_str!("../../page/help.js"),
    include_str!("../../page/search_box.js"),
    include_str!("../../page/step_panel.js"),
    include_str!("../../page/findings_panel.js"),
    include_str!("../../page/main.js"),
];

/// The marks in [`PAGE`].
const MARKS: [&str; 3] = ["/* styles */", "/* recording */", "/* scripts */"];

/// Writes the page of a recording. `title` is its name for people.
pub(crate) fn write(recording: &Recording, findings: &[Finding], title: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut rest = PAGE;
    for mark in MARKS {
        let (before, after) = rest.split_once(mark).expect("the page has each mark, in their order");
        out.write_all(before.as_bytes())?;
        match mark {
            "/* styles */" => STYLES.iter().try_for_each(|style| out.write_all(style.as_bytes()))?,
            "/* recording */" => page_data::write(recording, findings, title, out)?,
            _ => write_scripts(out)?,
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// Joins the modules to one: their imports are dropped, and their exports become plain declarations.
fn write_scripts(out: &mut dyn Write) -> io::Result<()> {
    for line in SCRIPTS.iter().flat_map(|script| script.lines()).filter(|line| !line.starts_with("import ")) {
        out.write_all(line.strip_prefix("export ").unwrap_or(line).as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
