//! CPU times as a bar chart in SVG.

use std::fmt::Write;

use crate::report::statistics::Summary;
use crate::report::table::thousands;

/// Workloads below a common title.
pub(crate) struct PanelGroup {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
}

/// One workload.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) floor_nanos: f64,
    pub(crate) bars: Vec<Bar>,
}

/// One server of a panel.
pub(crate) struct Bar {
    pub(crate) label: &'static str,
    /// Whether this is halloo, which has its own colour.
    pub(crate) is_own: bool,
    pub(crate) ratio: Option<Summary>,
    /// The text in place of a missing figure.
    pub(crate) missing: String,
}

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 430.0;
const LABEL_WIDTH: f64 = 155.0;
const BAR_WIDTH: f64 = 210.0;
const ROW_HEIGHT: f64 = 20.0;
const HEADER_HEIGHT: f64 = 34.0;
const MARGIN: f64 = 16.0;
const TITLE_HEIGHT: f64 = 52.0;
const GROUP_TITLE_HEIGHT: f64 = 14.0;
/// A longer bar is drawn cut, beside its figure.
const RATIO_MAX: f64 = 2.5;

/// Colours for a light and for a dark page. The chart has its own background, so it can be read on any page.
const STYLE: &str = "\
    .ground{fill:#fff;stroke:#d0d7de}.text{fill:#1f2328}.faint{fill:#59636e}.line{stroke:#59636e}\
    .own{fill:#1f6feb}.peer{fill:#afb8c1}\
    @media(prefers-color-scheme:dark){.ground{fill:#0d1117;stroke:#3d444d}.text{fill:#f0f6fc}.faint{fill:#9198a1}\
    .line{stroke:#9198a1}.own{fill:#4493f8}.peer{fill:#59636e}}\
    text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif}.title{font-weight:600;font-size:14px}.bold{font-weight:600}\
    .cut{fill:#fff}@media(prefers-color-scheme:dark){.cut{fill:#0d1117}}";

/// Draws all groups, one below the other.
pub(crate) fn svg(groups: &[PanelGroup]) -> String {
    let mut body = String::new();
    let mut top = TITLE_HEIGHT;
    for group in groups {
        text(&mut body, "faint", MARGIN, top, &group.title);
        top += GROUP_TITLE_HEIGHT;
        for line in group.panels.chunks(COLUMNS) {
            let mut left = MARGIN;
            for panel in line {
                draw(&mut body, panel, left, top);
                left += PANEL_WIDTH;
            }
            let rows = line.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
            #[expect(clippy::cast_precision_loss)]
            let bars_height = rows as f64 * ROW_HEIGHT;
            top += HEADER_HEIGHT + bars_height + MARGIN;
        }
        top += MARGIN;
    }
    #[expect(clippy::cast_precision_loss)]
    let width = COLUMNS as f64 * PANEL_WIDTH + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" role=\"img\">\n\
         <title>Processor time of a server for an exchange, as a ratio to a bare epoll loop</title>\n\
         <style>{STYLE}</style>\n\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n",
        width - 1.0,
        top - 1.0
    );
    text(&mut svg, "text title", MARGIN, 26.0, "The server's processor time for an exchange; less is better");
    svg + &body + "</svg>\n"
}

fn draw(svg: &mut String, panel: &Panel, left: f64, top: f64) {
    text(svg, "text title", left, top + 14.0, panel.title);
    let zero = left + LABEL_WIDTH;
    let length = |ratio: f64| ratio.min(RATIO_MAX) / RATIO_MAX * BAR_WIDTH;
    text(svg, "faint", zero, top + 14.0, &format!("1.00 = {} ns", thousands(panel.floor_nanos)));
    let mut y = top + HEADER_HEIGHT - 10.0;
    let first = y;
    for bar in &panel.bars {
        text(svg, if bar.is_own { "text bold" } else { "text" }, left, y + 13.0, bar.label);
        match &bar.ratio {
            Some(ratio) => {
                let class = if bar.is_own { "own" } else { "peer" };
                let width = length(ratio.median);
                rectangle(svg, class, [zero, y + 3.0, width, ROW_HEIGHT - 6.0]);
                let end = zero + length(ratio.max);
                line(svg, [zero + length(ratio.min), y + ROW_HEIGHT / 2.0, end, y + ROW_HEIGHT / 2.0]);
                if ratio.median > RATIO_MAX {
                    rectangle(svg, "cut", [end - 16.0, y, 4.0, ROW_HEIGHT]);
                }
                // Right of the line at 1, so that they do not overlap.
                text(svg, "text", end.max(zero + length(1.0)) + 5.0, y + 13.0, &format!("{:.2}", ratio.median));
            }
            None => text(svg, "faint", zero + 4.0, y + 13.0, &bar.missing),
        }
        y += ROW_HEIGHT;
    }
    line(svg, [zero + length(1.0), first, zero + length(1.0), y]);
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{escaped}</text>");
}

fn rectangle(svg: &mut String, class: &str, [x, y, width, height]: [f64; 4]) {
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"/>"
    );
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(svg, "<line class=\"line\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_well_formed_and_shows_every_figure() {
        let bar = |label, ratio| Bar { label, is_own: false, ratio, missing: "absent".to_owned() };
        let panel = |title| Panel {
            title,
            floor_nanos: 4321.0,
            bars: vec![
                bar("a <b> & c", Some(Summary { median: 1.25, min: 1.2, max: 1.31 })),
                bar("far", Some(Summary { median: 9.5, min: 9.0, max: 10.0 })),
                bar("missing", None),
            ],
        };
        let group = |title: &str, panels| PanelGroup { title: title.to_owned(), panels };
        let small = group("Small", vec![panel("once"), panel("lines"), panel("udp")]);
        let svg = svg(&[small, group("Bulk", vec![panel("echo")])]);
        let document = roxmltree::Document::parse(&svg).expect("it is XML");
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
        for expected in ["once", "udp", "a <b> & c", "1.25", "9.50", "absent", "1.00 = 4,321 ns", "Bulk", "echo"] {
            assert!(texts.contains(&expected), "{expected} in {texts:?}");
        }
        let right = |node: &roxmltree::Node<'_, '_>| {
            let number = |name| node.attribute(name).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
            number("x") + number("width")
        };
        let ground = document.descendants().find(|node| node.attribute("class") == Some("ground")).expect("a ground");
        assert!(
            document.descendants().all(|node| right(&node) <= right(&ground)),
            "something is outside of the picture"
        );
    }

    #[test]
    fn a_chart_without_panels_is_well_formed() {
        assert!(roxmltree::Document::parse(&svg(&[])).is_ok());
    }
}
