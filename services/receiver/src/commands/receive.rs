//! `RECV` and `ZRECV`: a file is fetched, and stays.

use std::io;

use protocol::{Form, Refusal, Reply, Verb, archive::Measured};
use runtime::{logs::Escaped, telemetry::journey::Passing};
use spool::Reader;
use tokio::sync::mpsc;

use crate::{
    session::{Session, SessionEnd},
    site::said_to_peer,
};

/// Announces the file, and sends it if the client agrees.
pub(crate) async fn run(session: &mut Session, name: &[u8], form: Form) -> Result<(), SessionEnd> {
    let verb = Verb::receive(form);
    let place = match session.site.place(name) {
        Ok(place) => place,
        Err(why) => return session.refuse(verb, name, Refusal::InvalidRequest, &why).await,
    };
    let mut reader = match place.folder.open(&place.entry).await {
        Ok(Some(reader)) => reader,
        Ok(None) => {
            // An agent asks for its .md5 before there is one: ordinary.
            tracing::info!(peer = %session.peer, verb = verb.as_str(), name = %Escaped(name), "no such file");
            session.ended(verb, "missing", &"no such file");
            return Ok(session.connection.write_reply(&Reply::Refused(verb, Refusal::Missing)).await?);
        }
        Err(error) => {
            return session.refuse(verb, name, Refusal::Other(said_to_peer(&error).into()), &error).await;
        }
    };
    match form {
        Form::Plain => {
            let size = reader.size();
            if session.announce(verb, size).await? {
                let passing = send_body(session, &mut reader).await?;
                session.transferred(verb, name, size, "file fetched", passing);
            } else {
                session.ended(verb, "declined", &"the client does not want it");
            }
        }
        Form::Zip => send_packed(session, name, &reader).await?,
    }
    Ok(())
}

/// Sends the whole of a file that was announced.
pub(crate) async fn send_body(session: &mut Session, reader: &mut Reader) -> Result<Passing, SessionEnd> {
    let mut passing = Passing::begin();
    let room = session.site.buffers.take(reader.room());
    reader.read_within(room.bytes());
    let mut left = reader.size();
    let mut spent = Vec::new();
    while left > 0 {
        let piece = reader.next(spent).await.map_err(SessionEnd::NotRead)?;
        if piece.is_empty() {
            return Err(SessionEnd::NotRead(io::ErrorKind::UnexpectedEof.into()));
        }
        passing.update(&piece);
        session.connection.write_body(&piece).await?;
        left -= piece.len() as u64;
        spent = piece;
    }
    Ok(passing)
}

/// The size of an archive is announced before its first byte, so it is packed
/// once to be measured, and a large one again to be sent: no copy of it lies
/// on a disk or in memory.
async fn send_packed(session: &mut Session, name: &[u8], reader: &Reader) -> Result<(), SessionEnd> {
    let verb = Verb::Zrecv;
    let member = name.to_vec();
    let room = session.site.buffers.take(Measured::PIECE);
    let keep = room.bytes();
    let measured = reader.with_contents(move |from| {
        let mut passing = Passing::begin();
        let measured = Measured::of(&member, passing.reading(from), keep).map_err(io::Error::other)?;
        Ok((measured, passing))
    });
    let (measured, passing) = match measured.await {
        Ok(measured) => measured,
        Err(error) => {
            return session.refuse(verb, name, Refusal::Other(said_to_peer(&error).into()), &error).await;
        }
    };
    let site = session.site.clone();
    let _permit = match measured.kept() {
        Some(_) => None,
        None => match tokio::time::timeout(site.deadline.as_duration(), site.packings.acquire()).await {
            Ok(permit) => Some(permit),
            Err(_) => {
                let busy = "too many archives are being sent";
                return session.refuse(verb, name, Refusal::Other(busy.into()), &busy).await;
            }
        },
    };
    if !session.announce(verb, measured.size()).await? {
        session.ended(verb, "declined", &"the client does not want it");
        return Ok(());
    }
    match measured.kept() {
        Some(archive) => session.connection.write_body(archive).await?,
        None => send_packed_again(session, name, reader, measured.size()).await?,
    }
    session.transferred(verb, name, measured.size(), "file fetched", passing);
    Ok(())
}

async fn send_packed_again(
    session: &mut Session,
    name: &[u8],
    reader: &Reader,
    size: u64,
) -> Result<(), SessionEnd> {
    let member = name.to_vec();
    let (pieces, packed) = mpsc::channel(2);
    let packing = reader.with_contents(move |from| {
        let hand_over = |piece| pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into());
        Measured::pieces(size, &member, from, hand_over).map_err(io::Error::other)
    });
    let sending = async {
        // By value: where the client is gone, the thread that packs is to end.
        let mut packed = packed;
        while let Some(piece) = packed.recv().await {
            session.connection.write_body(&piece).await?;
        }
        Ok(())
    };
    let (packed, sent) = tokio::join!(packing, sending);
    sent.and(packed.map_err(SessionEnd::NotRead))
}
