//! `pushmark serve`: the reference server.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use pushmark_server::{Config, Injection, Server};
use pushmark_transport::Heartbeat;
use pushmark_transport::carrier::Windows;
use pushmark_transport::carrier::certificates::{Acceptor, Identity, Offer, certificates};
use pushmark_transport::carrier::tls::Version;
use pushmark_transport::compression::{Compression, Window};
use pushmark_transport::control::{CONTROL, READY};
use pushmark_transport::seam::TcpOptions;

use crate::args::{CompressArgs, ServeArgs, WhenFull};
use crate::exit::{End, Outcome};
use crate::signals;
use crate::terminal::Terminal;

/// What secures connections, when that is asked for.
fn acceptor(args: &ServeArgs) -> anyhow::Result<Option<Acceptor>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let identity = match (&args.tls.tls_cert_out, &args.tls.tls_cert, &args.tls.tls_key) {
        (Some(out), ..) => {
            let made = Identity::make(&[args.listen.ip()], &[])?;
            std::fs::write(out, made.certificates_pem())
                .with_context(|| format!("cannot write {}", out.display()))?;
            made
        }
        (None, Some(certificate), Some(key)) => Identity::from_pem(&read(certificate)?, &read(key)?)?,
        _ if args.tls.client_ca.is_some() || args.tls.tls_version.is_some() || args.tls.tls_resumption => {
            anyhow::bail!(
                "TLS needs a certificate: add --tls-cert FILE --tls-key FILE, or --tls-cert-out FILE"
            )
        }
        _ => return Ok(None),
    };
    let client_ca = args.tls.client_ca.as_deref().map(read).transpose()?;
    let offer = Offer {
        version: match args.tls.tls_version.as_deref() {
            Some("1.2") => Some(Version::Tls1_2),
            Some(_) => Some(Version::Tls1_3),
            None => None,
        },
        resumption: args.tls.tls_resumption,
        client_ca: client_ca.as_deref().map(certificates).transpose()?,
        ..Offer::default()
    };
    Ok(Some(Acceptor::new(&identity, &offer)?))
}

/// What is compressed for clients that ask.
fn compression(args: &CompressArgs) -> Option<Compression> {
    let window = Window {
        takeover: !args.no_context_takeover,
        bits: args.window_bits,
    };
    args.compress.map(|level| Compression {
        down: window,
        up: window,
        level,
    })
}

pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let threads = args.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    let config = Config {
        tls: acceptor(args)?,
        compression: compression(&args.compress),
        listen: args.listen,
        control: args.control,
        share_port: args.share_port,
        threads,
        outbox_messages: args.outbox as usize,
        when_full: match args.when_full {
            WhenFull::DropOldest => pushmark_transport::WhenFull::DropOldest,
            WhenFull::DropNewest => pushmark_transport::WhenFull::DropNewest,
            WhenFull::Disconnect => pushmark_transport::WhenFull::Disconnect,
        },
        max_sessions: args.max_sessions as usize,
        heartbeat: args
            .detect
            .heartbeat_every
            .zip(args.detect.heartbeat_timeout)
            .map(|(every, timeout)| Heartbeat { every, timeout }),
        windows: Windows {
            stream_bytes: args.windows.stream_window,
            connection_bytes: args.windows.connection_window,
        },
        history: args.history as usize,
        retry: args.retry,
        tcp: TcpOptions {
            keepalive: args.detect.keepalive,
            user_timeout: args.detect.user_timeout,
        },
        inject: Injection {
            delay: args.inject.inject_delay_ms,
            work: args.inject.inject_work_us,
            drop: args.inject.inject_drop.iter().copied().collect(),
            duplicate: args.inject.inject_duplicate.iter().copied().collect(),
            swap: args.inject.inject_swap.iter().copied().collect(),
            lose_delivery: args.inject.inject_lose_delivery,
            leak_bytes: args.inject.inject_leak_bytes as usize,
        },
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (input_ended, mut ended) = tokio::sync::mpsc::channel::<()>(1);
    if args.exit_with_stdin {
        std::thread::spawn(move || {
            // Whatever is said is ignored; only the end matters, and an error is an end.
            let mut nothing = [0u8; 256];
            while std::io::stdin().read(&mut nothing).is_ok_and(|n| n > 0) {}
            drop(input_ended);
        });
    } else {
        std::mem::forget(input_ended);
    }
    runtime.block_on(async {
        let mut stop = signals::count()?;
        let server = Server::start(config)?;
        let control = server
            .control()
            .map(|address| format!("{CONTROL}{address}"))
            .unwrap_or_default();
        Terminal::result(&format!("{READY}{}{control}\n", server.address()));
        tokio::select! {
            _ = stop.changed() => {}
            _ = ended.recv() => {}
        }
        // A second signal does not wait for sessions to end.
        tokio::select! {
            stopped = tokio::task::spawn_blocking(move || server.stop()) => stopped??,
            _ = stop.changed() => {}
        }
        Ok(End::Fine)
    })
}
