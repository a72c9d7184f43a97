//! Metrics as text: the Prometheus format 0.0.4, and `OpenMetrics` 1.0.0.
//!
//! Both formats have the same samples, with the same names, labels and values.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use halloo::Histogram;

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The Prometheus text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format for an `Accept` header. `OpenMetrics` only if the header names it, with a quality of at least that of
    /// plain text: a person with curl or a browser gets plain text.
    pub(crate) fn from_accept(accept: Option<&str>) -> Self {
        let ranges = || accept.unwrap_or_default().split(',').filter_map(MediaRange::parse);
        let quality_of = |name: &str, version: &str| {
            let is_meant = |range: &MediaRange<'_>| {
                range.name.eq_ignore_ascii_case(name) && range.version.is_none_or(|wanted| wanted == version)
            };
            ranges().filter(is_meant).map(|range| range.quality).max()
        };
        let open_metrics = quality_of("application/openmetrics-text", "1.0.0").unwrap_or(0);
        // The most specific range decides (RFC 9110, 12.5.1).
        let text = ["text/plain", "text/*", "*/*"].iter().find_map(|name| quality_of(name, "0.0.4")).unwrap_or(0);
        if open_metrics > 0 && open_metrics >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of the `Content-Type` header.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// One element of an `Accept` header, such as `text/plain;version=0.0.4;q=0.5`.
struct MediaRange<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// In thousandths; 0 refuses the type.
    quality: u16,
}

impl<'a> MediaRange<'a> {
    /// `None` without a name, or with a quality that is not one (RFC 9110, 12.4.2).
    fn parse(element: &'a str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let mut range = Self { name, version: None, quality: 1000 };
        for (parameter, value) in parts.filter_map(|part| part.split_once('=')) {
            match parameter.trim_end() {
                "q" | "Q" => range.quality = parse_quality(value.trim_start())?,
                "version" => range.version = Some(value.trim_start().trim_matches('"')),
                _ => {}
            }
        }
        Some(range)
    }
}

/// `0`, `1`, or a fraction of at most three digits, in thousandths.
fn parse_quality(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_valid = matches!(whole, "0" | "1") && fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let thousandths: u16 = is_valid.then(|| format!("{whole}{fraction:0<3}"))?.parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Facts as labels; the value is 1.
    Info,
    /// A value that rises and falls.
    Gauge,
    /// A count that only rises, until the process ends.
    Counter,
    /// Counts of values up to each bound.
    Histogram,
}

/// The units of metrics.
const UNITS: [&str; 2] = ["bytes", "seconds"];

/// The head of a metric. Its name is that of its samples: with `_total` if it is a counter, with `_info` if it is an
/// info. Before that it ends with its unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

impl Head {
    /// The name of the metric family: `OpenMetrics` adds the suffix to samples only.
    fn family(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }

    fn unit(&self) -> Option<&'static str> {
        let ends_with = |unit: &&str| self.family().strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'));
        UNITS.into_iter().find(ends_with)
    }
}

/// A value of a sample. Seconds are exact: no value goes through a floating-point number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Value {
    Count(u64),
    Seconds(Duration),
}

impl Value {
    /// Seconds, of a number of nanoseconds.
    pub(crate) const fn nanoseconds(nanos: u64) -> Self {
        Self::Seconds(Duration::from_nanos(nanos))
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Seconds(duration) => {
                let text = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
                let digits = text.trim_end_matches('0');
                // At least one digit: OpenMetrics wants `1.0` as a bound.
                write!(f, "{digits}{}", if digits.ends_with('.') { "0" } else { "" })
            }
        }
    }
}

/// Buckets of a [`Histogram`]: those with the given numbers of bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    pub(crate) bits_min: u32,
    pub(crate) bits_max: u32,
    /// Makes a value of a bound or of the sum.
    pub(crate) value: fn(u64) -> Value,
}

/// The text of all metrics.
#[derive(Debug)]
pub(crate) struct Exposition {
    format: Format,
    text: String,
}

// Writing into a string cannot fail, here and below.
impl Exposition {
    /// Without metrics.
    pub(crate) fn new(format: Format) -> Self {
        // The text has about 15 kB.
        Self { format, text: String::with_capacity(20_000) }
    }

    /// Writes the head of a metric. Its samples follow.
    pub(crate) fn head(&mut self, head: &Head) {
        let name = if self.format == Format::OpenMetrics { head.family() } else { head.name };
        let kind = match (head.kind, self.format) {
            (Kind::Counter, _) => "counter",
            (Kind::Histogram, _) => "histogram",
            (Kind::Info, Format::OpenMetrics) => "info",
            // The older format has no such kind.
            (Kind::Gauge, _) | (Kind::Info, Format::Text) => "gauge",
        };
        let help = Escaped { text: head.help, quotes: self.format == Format::OpenMetrics };
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        if let (Some(unit), Format::OpenMetrics) = (head.unit(), self.format) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    /// Writes a sample: its name, its label, its value.
    pub(crate) fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: Value) {
        self.text.push_str(name);
        if let Some((label, text)) = label {
            let _ = write!(self.text, "{{{label}=\"{}\"}}", Escaped { text, quotes: true });
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// Writes the samples of a histogram: the count up to each bound, the sum, the count of all.
    pub(crate) fn histogram(&mut self, name: &str, buckets: Buckets, histogram: &Histogram) {
        let mut count = 0;
        for (bits, (bound, in_bucket)) in (0_u32..).zip(histogram.buckets()) {
            count += in_bucket;
            if bits >= buckets.bits_min && bits <= buckets.bits_max {
                let (bound, count) = ((buckets.value)(bound), Value::Count(count));
                // Like every number of a label, with a decimal point: `1` and `1.0` would be two series.
                let point = if matches!(bound, Value::Count(_)) { ".0" } else { "" };
                let _ = writeln!(self.text, "{name}_bucket{{le=\"{bound}{point}\"}} {count}");
            }
        }
        let sum = (buckets.value)(histogram.sum());
        let _ = write!(self.text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// A text in which backslashes, newlines and perhaps quotes are escaped.
struct Escaped<'a> {
    text: &'a str,
    quotes: bool,
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '\n' => f.write_str("\\n"),
            '"' if self.quotes => f.write_str("\\\""),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use halloo::Histogram;

    use super::{Buckets, Exposition, Format, Head, Kind, Value};

    #[test]
    fn openmetrics_is_sent_only_if_the_accept_header_prefers_it() {
        let prometheus = "application/openmetrics-text; version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let later_prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                                application/openmetrics-text;version=0.0.1;q=0.5,\
                                text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
                                */*;q=0.2";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, expected) in [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some(browser), Format::Text),
            (Some(prometheus), Format::OpenMetrics),
            (Some(later_prometheus), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("Application/OpenMetrics-Text ; Version=1.0.0 ; Q=0.1"), Format::OpenMetrics),
            (Some("application/openmetrics-text;version=\"1.0.0\""), Format::OpenMetrics),
            (Some("application/openmetrics-text;version=2.0.0"), Format::Text),
            (Some("application/openmetrics-text;version=0.0.1"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;q=0.000, */*"), Format::Text),
            (Some("application/openmetrics-text;q=0.5, text/plain;q=0.6"), Format::Text),
            (Some("application/openmetrics-text;q=0.5, text/plain;q=0.5"), Format::OpenMetrics),
            (Some("text/plain;q=0.2, application/openmetrics-text;q=0.3, */*;q=1"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0.9, */*"), Format::Text),
            (Some("application/openmetrics-text;q=2, text/plain;q=0.1"), Format::Text),
            (Some("application/openmetrics-text;q=x"), Format::Text),
            (Some("application/openmetrics-text;q=1.001"), Format::Text),
            (Some(";;,;q=1,=,"), Format::Text),
            (Some("image/png"), Format::Text),
        ] {
            assert_eq!(Format::from_accept(accept), expected, "{accept:?}");
        }
    }

    const BYTES: Head = Head { name: "x_bytes_total", kind: Kind::Counter, help: "Bytes read." };

    fn both(write: impl Fn(&mut Exposition)) -> [String; 2] {
        [Format::Text, Format::OpenMetrics].map(|format| {
            let mut exposition = Exposition::new(format);
            write(&mut exposition);
            exposition.finish()
        })
    }

    #[test]
    fn openmetrics_has_units_and_an_end_and_total_only_at_samples() {
        let [text, open_metrics] = both(|exposition| {
            exposition.head(&BYTES);
            exposition.sample(BYTES.name, None, Value::Count(7));
        });
        assert_eq!(text, "# HELP x_bytes_total Bytes read.\n# TYPE x_bytes_total counter\nx_bytes_total 7\n");
        let head = "# HELP x_bytes Bytes read.\n# TYPE x_bytes counter\n# UNIT x_bytes bytes\n";
        assert_eq!(open_metrics, format!("{head}x_bytes_total 7\n# EOF\n"));
    }

    #[test]
    fn an_info_is_a_gauge_in_the_older_format() {
        let head = Head { name: "x_info", kind: Kind::Info, help: "Version." };
        let [text, open_metrics] = both(|exposition| {
            exposition.head(&head);
            exposition.sample(head.name, Some(("version", "1")), Value::Count(1));
        });
        assert_eq!(text, "# HELP x_info Version.\n# TYPE x_info gauge\nx_info{version=\"1\"} 1\n");
        assert_eq!(open_metrics, "# HELP x Version.\n# TYPE x info\nx_info{version=\"1\"} 1\n# EOF\n");
    }

    #[test]
    fn help_and_labels_are_escaped() {
        let head = Head { name: "x", kind: Kind::Gauge, help: "a \"b\"\\\nc" };
        let [text, open_metrics] = both(|exposition| {
            exposition.head(&head);
            exposition.sample(head.name, Some(("l", "a \"b\"\\\nc {d}")), Value::Count(0));
        });
        let sample = "x{l=\"a \\\"b\\\"\\\\\\nc {d}\"} 0\n";
        assert_eq!(text, format!("# HELP x a \"b\"\\\\\\nc\n# TYPE x gauge\n{sample}"));
        assert_eq!(open_metrics, format!("# HELP x a \\\"b\\\"\\\\\\nc\n# TYPE x gauge\n{sample}# EOF\n"));
    }

    #[test]
    fn seconds_are_exact_decimals() {
        for (nanos, text) in [
            (0, "0.0"),
            (1, "0.000000001"),
            (1023, "0.000001023"),
            (1_000_000_000, "1.0"),
            (10_500_000_000, "10.5"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(Value::nanoseconds(nanos).to_string(), text);
        }
    }

    #[test]
    fn the_buckets_of_a_histogram_are_cumulative_and_include_values_outside_the_bounds() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 1000] {
            histogram.record(value);
        }
        let buckets = Buckets { bits_min: 1, bits_max: 3, value: Value::Count };
        let [text, _] = both(|exposition| exposition.histogram("x", buckets, &histogram));
        let expected = "x_bucket{le=\"1.0\"} 2\nx_bucket{le=\"3.0\"} 4\nx_bucket{le=\"7.0\"} 5\n\
                        x_bucket{le=\"+Inf\"} 6\nx_sum 1010\nx_count 6\n";
        assert_eq!(text, expected);
        let buckets = Buckets { bits_min: 1, bits_max: 2, value: Value::nanoseconds };
        let [text, _] = both(|exposition| exposition.histogram("x", buckets, &histogram));
        let expected = "x_bucket{le=\"0.000000001\"} 2\nx_bucket{le=\"0.000000003\"} 4\nx_bucket{le=\"+Inf\"} 6\n\
                        x_sum 0.00000101\nx_count 6\n";
        assert_eq!(text, expected);
    }
}
