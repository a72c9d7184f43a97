//! The metrics of a server, scraped and parsed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use support::network::http_client::request;
use support::process::server::Server;

/// The `Accept` header of Prometheus.
pub(crate) const PROMETHEUS_ACCEPT: &str = "Accept: application/openmetrics-text;version=1.0.0,\
     application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";

/// The values of one scrape, by series.
#[derive(Debug)]
pub(crate) struct Scrape(BTreeMap<String, f64>);

/// The metrics as text, in the format for some headers.
#[track_caller]
pub(crate) fn scrape_text(from: SocketAddr, headers: &str) -> String {
    let response = request(from, "GET /metrics", headers);
    assert_eq!(response.status, 200, "{response:?}");
    response.body
}

#[track_caller]
pub(crate) fn scrape(server: &Server) -> Scrape {
    Scrape::parse(&scrape_text(server.admin(), ""))
}

impl Scrape {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(samples.map(|line| parse(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect())
    }

    /// The value of a series such as `halloo_greetings_total{protocol="tcp"}`.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// A whole number.
    #[track_caller]
    pub(crate) fn count(&self, series: &str) -> u64 {
        let text = self.value(series).to_string();
        text.parse().unwrap_or_else(|_| panic!("{series} is {text}"))
    }

    pub(crate) fn series(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
