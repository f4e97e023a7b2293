//! The header of a proxy says the same in whatever pieces it arrives, and not
//! a byte of what follows is taken.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};
use transport::proxy_header;

pub fn run(input: &[u8]) {
    thread_local! {
        static LOCAL: (Runtime, TcpListener) = local();
    }
    LOCAL.with(|(runtime, listener)| {
        runtime.block_on(async {
            let whole = heard(listener, input, input.len()).await;
            let pieces = heard(listener, input, 1 + input.len() / 3).await;
            assert_eq!(pieces, whole);
            if let (Ok(Some(client)), _) = whole {
                assert_eq!(written_and_heard(listener, client).await, Some(client));
            }
        });
    });
}

fn local() -> (Runtime, TcpListener) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime of one thread");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    (runtime, listener)
}

/// What the header says, or why it says nothing; and what follows it.
async fn heard(
    listener: &TcpListener,
    input: &[u8],
    piece: usize,
) -> (Result<Option<SocketAddr>, String>, Option<Vec<u8>>) {
    let (mut near, mut far) = pair(listener).await;
    let says = async {
        for piece in input.chunks(piece.max(1)) {
            near.write_all(piece).await.expect("the other end is open");
            // The other end reads what is there.
            tokio::task::yield_now().await;
        }
        near.shutdown().await.expect("the other end is open");
    };
    let hears = async {
        let client = proxy_header::read(&mut far, Duration::from_secs(60)).await;
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.expect("the other end is open");
        (client, rest)
    };
    let ((), (client, rest)) = tokio::join!(says, hears);
    drop_both(near, far);
    match client {
        Ok(client) => {
            assert!(input.ends_with(&rest) && input.len() - rest.len() >= 16, "a header of no length");
            (Ok(client), Some(rest))
        }
        // How much was read of what is refused is nobody's business.
        Err(error) => (Err(error.to_string()), None),
    }
}

async fn written_and_heard(listener: &TcpListener, client: SocketAddr) -> Option<SocketAddr> {
    let (mut near, mut far) = pair(listener).await;
    proxy_header::write(&mut near, client, client).await.expect("the other end is open");
    let heard =
        proxy_header::read(&mut far, Duration::from_secs(60)).await.expect("a header of ours is whole");
    drop_both(near, far);
    heard
}

async fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let address = listener.local_addr().expect("it is bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, (far, _)) = (near.expect("it listens"), far.expect("somebody connects"));
    near.set_nodelay(true).expect("it is open");
    (near, far)
}

/// By a reset, which keeps no port back: there are many inputs a second.
fn drop_both(near: TcpStream, far: TcpStream) {
    for stream in [far, near] {
        // Of one that is reset already, there is nothing to set.
        let _ = stream.set_zero_linger();
    }
}
