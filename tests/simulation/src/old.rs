//! A server of the peers' kind: it knows no `FEATURES`, and forgets a file
//! with the last byte that it hands to its network.

use std::{fs, io::Write as _, net::Ipv4Addr, path::Path};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    task::spawn_local,
};
use turmoil::net::{TcpListener, TcpStream};

use crate::{cutter::PORT, files};

pub(crate) async fn serve(folder: &Path) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let folder = folder.to_owned();
        spawn_local(async move { session(BufStream::new(stream), &folder).await });
    }
}

async fn session(mut stream: BufStream<TcpStream>, folder: &Path) -> Option<()> {
    loop {
        let line = line(&mut stream).await?;
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let (name, rest) = rest.trim_start_matches('<').split_once('>').unwrap_or((rest, ""));
        match verb {
            "PASS" => say(&mut stream, "PASS OK\n").await?,
            "SEND" => take(&mut stream, &folder.join(name), rest).await?,
            "LS" => {
                let names = files::visible(folder);
                let names = names.iter().map(|path| format!("{}\n", path.file_name().unwrap().display()));
                let list = names.fold(".\n..\n".to_owned(), |list, name| list + &name);
                hand_out(&mut stream, verb, list.as_bytes()).await?;
            }
            "RECV" | "MV" => match fs::read(folder.join(name)) {
                Ok(content) => {
                    let is_out = hand_out(&mut stream, verb, &content).await?;
                    if is_out && verb == "MV" {
                        let _ = fs::remove_file(folder.join(name));
                    }
                }
                Err(_) => say(&mut stream, &format!("{verb} ERR\n")).await?,
            },
            _ => return None,
        }
    }
}

async fn take(stream: &mut BufStream<TcpStream>, path: &Path, size: &str) -> Option<()> {
    let size = size.trim().trim_start_matches("SIZE ").parse().ok()?;
    if path.exists() {
        return say(stream, "SEND ERR (file already exists)\n").await;
    }
    say(stream, "SEND OK\n").await?;
    let mut content = vec![0; size];
    stream.read_exact(&mut content).await.ok()?;
    // Another may have sent it meanwhile.
    match fs::File::create_new(path) {
        Ok(mut file) => file.write_all(&content).unwrap(),
        Err(_) => return say(stream, "SEND ERR (file already exists)\n").await,
    }
    say(stream, "SEND OK\n").await
}

/// Whether it was wanted, and went out.
async fn hand_out(stream: &mut BufStream<TcpStream>, verb: &str, content: &[u8]) -> Option<bool> {
    say(stream, &format!("{verb} SIZE {}\n", content.len())).await?;
    if line(stream).await? != format!("{verb} OK") {
        return Some(false);
    }
    stream.write_all(content).await.ok()?;
    stream.flush().await.ok()?;
    Some(true)
}

async fn line(stream: &mut BufStream<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await.ok()?;
    line.pop().filter(|last| *last == b'\n')?;
    String::from_utf8(line).ok()
}

async fn say(stream: &mut BufStream<TcpStream>, text: &str) -> Option<()> {
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}
