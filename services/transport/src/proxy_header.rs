//! The header by which a proxy says whose connection it passes on: the PROXY
//! protocol of HAProxy, version 2
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, section
//! 2.2).

use std::{io, net::SocketAddr, time::Duration};

use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::net::TcpStream;

/// Why a connection's header cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It begins with something else.
    #[error("it does not begin with a PROXY header (the proxy must send one of version 2)")]
    Missing,
    /// The form in text.
    #[error("its PROXY header is of version 1 (the proxy must send version 2)")]
    Version1,
    /// Not as the specification says, or not of TCP.
    #[error("its PROXY header is malformed")]
    Malformed,
    /// Of so many bytes.
    #[error("its PROXY header is of {0} bytes, more than {MOST}")]
    TooLong(usize),
    /// The connection ended within it, or before.
    #[error("it ended before its PROXY header did")]
    CutShort,
    /// It was not whole in time.
    #[error("no whole PROXY header within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The connection's.
    #[error("its PROXY header cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads the header that `stream` begins with, within `patience`, and not a
/// byte of what follows: the client's address. None where the proxy speaks
/// for itself (`LOCAL`), or does not know of an address.
///
/// # Errors
/// [`HeaderError`]; then the connection is of no use.
pub async fn read(stream: &mut TcpStream, patience: Duration) -> Result<Option<SocketAddr>, HeaderError> {
    timeout(patience, read_whole(stream)).await.map_err(|_| HeaderError::TimedOut(patience))?
}

async fn read_whole(stream: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderError> {
    let mut header = vec![0; FIXED];
    fill(stream, &mut header, check_signature).await?;
    let whole = FIXED + usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
    if whole > MOST {
        return Err(HeaderError::TooLong(whole));
    }
    header.resize(whole, 0);
    fill(stream, &mut header[FIXED..], |_| Ok(())).await?;
    // The specification has all of the rest passed over, whatever it is.
    if header[SIGNATURE.len()] == LOCAL {
        return Ok(None);
    }
    let (header, _) =
        ProxyHeader::parse(&header, ParseConfig { include_tlvs: false, allow_v1: false, allow_v2: true })
            .map_err(|_| HeaderError::Malformed)?;
    match header.proxied_address() {
        Some(address) if address.protocol != Protocol::Stream => Err(HeaderError::Malformed),
        // IPv4 may come as a part of IPv6, as `write` sends it.
        Some(address) => Ok(Some(SocketAddr::new(address.source.ip().to_canonical(), address.source.port()))),
        None => Ok(None),
    }
}

/// Says by the first bytes of a connection that it is of `client`, who had
/// connected to `reached`.
///
/// # Errors
/// The connection's.
pub async fn write(stream: &mut TcpStream, client: SocketAddr, reached: SocketAddr) -> io::Result<()> {
    let (client, reached) = match (client, reached) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => (client, reached),
        // A header has one family.
        _ => (as_ipv6(client), as_ipv6(reached)),
    };
    send(stream, ProxyHeader::with_address(ProxiedAddress::stream(client, reached))).await
}

/// Writes the header of a connection that is the proxy's own.
///
/// # Errors
/// The connection's.
pub async fn write_own(stream: &mut TcpStream) -> io::Result<()> {
    send(stream, ProxyHeader::with_local()).await
}

async fn send(stream: &mut TcpStream, header: ProxyHeader<'_>) -> io::Result<()> {
    let mut bytes = Vec::new();
    header.encode_v2(&mut bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&bytes).await
}

fn as_ipv6(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), address.port()).into(),
        SocketAddr::V6(_) => address,
    }
}

/// Whether a header of version 2 can begin so: who sends something else is
/// not waited for.
fn check_signature(begin: &[u8]) -> Result<(), HeaderError> {
    let agrees = |with: &[u8]| begin.iter().zip(with).all(|(byte, with)| byte == with);
    if agrees(SIGNATURE) || (agrees(VERSION_1) && begin.len() < VERSION_1.len()) {
        return Ok(());
    }
    Err(if agrees(VERSION_1) { HeaderError::Version1 } else { HeaderError::Missing })
}

/// Fills `buffer`; what came of it so far is shown to `check`.
async fn fill(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    check: impl Fn(&[u8]) -> Result<(), HeaderError>,
) -> Result<(), HeaderError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Err(HeaderError::CutShort),
            count => filled += count,
        }
        check(&buffer[..filled])?;
    }
    Ok(())
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const VERSION_1: &[u8] = b"PROXY ";

/// Version 2, and the command: the proxy's own connection.
const LOCAL: u8 = 0x20;

/// Bytes that every header has: the signature, version and command, the
/// family, and how many follow.
const FIXED: usize = 16;

/// Bytes of a header. The addresses are 216 at most, and the rest is what
/// proxies add to them, such as a name or what they know of TLS.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const FOLLOWS: &[u8] = b"PASS and all that follows";

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// What `read` makes of the bytes, after which the connection ends.
    async fn reads(bytes: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
        let (mut near, mut far) = pair().await;
        near.write_all(bytes).await.unwrap();
        drop(near);
        read(&mut far, PATIENCE).await
    }

    /// The same, where all that follows the header must be left.
    async fn reads_it_alone(header: &[u8]) -> Option<SocketAddr> {
        let (mut near, mut far) = pair().await;
        near.write_all(&[header, FOLLOWS].concat()).await.unwrap();
        drop(near);
        let read = read(&mut far, PATIENCE).await.unwrap();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, FOLLOWS);
        read
    }

    /// A header of these two bytes and this payload.
    fn header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, payload].concat()
    }

    /// 192.0.2.1:4660 to 198.51.100.2:41121.
    const IPV4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0xa0, 0xa1];

    #[tokio::test]
    async fn the_header_is_read_and_no_byte_more() {
        let client = Some("192.0.2.1:4660".parse().unwrap());
        assert_eq!(reads_it_alone(&header(0x21, 0x11, IPV4)).await, client);
        let mut ipv6 = [0; 36];
        ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        ipv6[15] = 1;
        ipv6[32..].copy_from_slice(&[0x12, 0x34, 0xa0, 0xa1]);
        let found = reads_it_alone(&header(0x21, 0x21, &ipv6)).await;
        assert_eq!(found, Some("[2001:db8::1]:4660".parse().unwrap()));
        // What a proxy adds, up to the bound.
        for added in [&b"\x04\0\0"[..], b"\x02\0\x07web.org\x20\0\x05\x01\0\0\0\0", &[4; MOST - FIXED - 12]] {
            assert_eq!(reads_it_alone(&header(0x21, 0x11, &[IPV4, added].concat())).await, client);
        }
    }

    #[tokio::test]
    async fn a_proxy_that_names_nobody_has_its_own_address() {
        for local in [
            header(0x20, 0x00, b""),
            header(0x20, 0x11, IPV4),
            // To be passed over, whatever it is.
            header(0x20, 0xff, &[7; 99]),
            header(0x21, 0x00, b""),
            header(0x21, 0x00, &[7; 99]),
            header(0x21, 0x31, &[0; 216]),
        ] {
            assert_eq!(reads_it_alone(&local).await, None, "{local:?}");
        }
    }

    #[tokio::test]
    async fn a_header_that_is_cut_anywhere_is_refused() {
        let whole = header(0x21, 0x11, &[IPV4, b"\x04\0\x02xx"].concat());
        for length in 0..whole.len() {
            let read = reads(&whole[..length]).await;
            assert!(matches!(read, Err(HeaderError::CutShort)), "{length}: {read:?}");
            // And waited for, where it only pauses.
            let (mut near, mut far) = pair().await;
            near.write_all(&whole[..length]).await.unwrap();
            let soon = Duration::from_millis(1);
            let waited = super::read(&mut far, soon).await;
            assert!(matches!(waited, Err(HeaderError::TimedOut(_))), "{length}: {waited:?}");
        }
    }

    #[tokio::test]
    async fn a_header_may_come_byte_by_byte() {
        let (mut near, mut far) = pair().await;
        near.set_nodelay(true).unwrap();
        let sends = async {
            for byte in header(0x21, 0x11, IPV4) {
                near.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (read, ()) = tokio::join!(read(&mut far, PATIENCE), sends);
        assert_eq!(read.unwrap(), Some("192.0.2.1:4660".parse().unwrap()));
    }

    #[tokio::test]
    async fn what_is_no_header_of_version_2_is_refused() {
        for text in ["PROXY ", "PROXY UNKNOWN\r\n", "PROXY TCP4 192.0.2.1 198.51.100.2 4660 41121\r\n"] {
            let read = reads(text.as_bytes()).await;
            assert!(matches!(read, Err(HeaderError::Version1)), "{text}: {read:?}");
        }
        for garbage in
            [&b"SEND <a.data> SIZE 1\n"[..], b"\x16\x03\x01", b"\r\n\r\n\0\r\nQUIT\r", b"PROXZ", b"\0"]
        {
            let read = reads(garbage).await;
            assert!(matches!(read, Err(HeaderError::Missing)), "{garbage:?}: {read:?}");
        }
        for malformed in [
            // A version, a command, a family, and a transport that are unknown.
            header(0x11, 0x11, IPV4),
            header(0x22, 0x11, IPV4),
            header(0x21, 0x41, IPV4),
            header(0x21, 0x13, IPV4),
            // Datagrams.
            header(0x21, 0x12, IPV4),
            // Too few bytes for the addresses.
            header(0x21, 0x11, &IPV4[1..]),
            header(0x21, 0x21, IPV4),
            header(0x21, 0x31, IPV4),
        ] {
            let read = reads(&malformed).await;
            assert!(matches!(read, Err(HeaderError::Malformed)), "{malformed:?}: {read:?}");
        }
        let read = reads(&header(0x21, 0x11, &[0; MOST - FIXED + 1])).await;
        assert!(matches!(read, Err(HeaderError::TooLong(4097))), "{read:?}");
    }

    #[tokio::test]
    async fn what_is_written_is_read_in_each_family() {
        let (ipv4, ipv6) = ("192.0.2.1:4660", "[2001:db8::1]:4660");
        for (client, reached) in [(ipv4, ipv4), (ipv6, ipv6), (ipv4, ipv6), (ipv6, ipv4)] {
            let (mut near, mut far) = pair().await;
            let client = client.parse().unwrap();
            write(&mut near, client, reached.parse().unwrap()).await.unwrap();
            assert_eq!(read(&mut far, PATIENCE).await.unwrap(), Some(client));
        }
        let (mut near, mut far) = pair().await;
        write(&mut near, ipv4.parse().unwrap(), "198.51.100.2:41121".parse().unwrap()).await.unwrap();
        drop(near);
        let mut written = Vec::new();
        far.read_to_end(&mut written).await.unwrap();
        assert_eq!(written, header(0x21, 0x11, IPV4));
    }
}
