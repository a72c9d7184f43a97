//! A greeting over TLS, with rustls inside the handler.
//!
//! `cargo run --release -p protocols --bin tls_greeter`, then
//! `echo 'Hello, TLS Server!' | openssl s_client -quiet -connect localhost:8443`. An argument sets another listen
//! address.
//!
//! The certificate is new at every start, and self-signed. The handler passes input to rustls, and writes the records
//! of rustls to the outbox. Records that do not fit wait for `on_flushed`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use halloo::{Connection, EventLoop, Listen, StreamHandler};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// From connect to request, handshake included. Input does not extend it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

struct Greeter {
    config: Arc<ServerConfig>,
}

struct Session {
    tls: ServerConnection,
    /// The reply is complete: after the last record the connection is closed.
    is_over: bool,
}

impl StreamHandler for Greeter {
    type Session = Session;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Session> {
        connection.set_timeout(Some(REQUEST_TIMEOUT));
        let tls = ServerConnection::new(Arc::clone(&self.config)).ok()?;
        Some(Session { tls, is_over: false })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Session, input: &[u8]) -> usize {
        let mut rest = input;
        while !rest.is_empty() && !session.is_over {
            // An error is a broken handshake or record. The output then contains the TLS alert.
            session.is_over = process_records(&mut session.tls, &mut rest).unwrap_or(true);
        }
        session.flush(connection);
        input.len()
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, session: &mut Session) {
        session.flush(connection);
    }
}

/// Passes input to rustls, and writes the reply. Returns true after the last record.
fn process_records(tls: &mut ServerConnection, ciphertext: &mut &[u8]) -> io::Result<bool> {
    tls.read_tls(ciphertext)?;
    let state = tls.process_new_packets().map_err(io::Error::other)?;
    if state.plaintext_bytes_to_read() == 0 {
        return Ok(state.peer_has_closed());
    }
    let mut request = [0; 1024];
    let length = tls.reader().read(&mut request)?;
    println!("Received: {}", request[..length].escape_ascii());
    tls.writer().write_all(b"Hello, TLS Client!\n")?;
    // Without `close_notify` the client cannot distinguish the end from a truncation by an attacker.
    tls.send_close_notify();
    Ok(true)
}

impl Session {
    /// Writes the records of rustls, as many as fit the outbox.
    fn flush(&mut self, connection: &mut Connection<'_>) {
        while self.tls.wants_write() {
            if self.tls.write_tls(connection).is_err() {
                return;
            }
        }
        if self.is_over {
            connection.close();
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8443").parse()?;
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der())?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(generated.cert.der().to_vec())], key)?;

    let mut events = EventLoop::new()?;
    let listener = events.listen(Listen::from(address), Greeter { config: Arc::new(config) })?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}
