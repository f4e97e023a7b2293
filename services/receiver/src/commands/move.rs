//! `MV`: a file is fetched, and leaves once its reader has shown that it has
//! it.

use protocol::{Refusal, Verb};

use super::receive::send_body;
use crate::session::{Session, SessionEnd, settle};

/// Announces the file, and sends it if the client agrees; the client's next
/// command removes it.
pub(crate) async fn run(session: &mut Session, name: &[u8]) -> Result<(), SessionEnd> {
    let last = session.handed_out.take();
    let place = match session.site.place(name) {
        Ok(place) => place,
        Err(why) => {
            settle(last).await?;
            return session.refuse(Verb::Mv, name, Refusal::Unsaid, &why).await;
        }
    };
    // The name that was just handed out may stand for a newer file by now,
    // which is offered once the older one has been given up.
    let (earlier, beside) = match last {
        Some(lease) if *lease.name() == place.entry => (Some(lease), None),
        last => (None, last),
    };
    settle(earlier).await?;
    // While the last file leaves the disk, this one is announced and agreed
    // upon. A byte of its body would say that the last one is gone, as any
    // other answer does: the announcement of an empty file too.
    let announced = async {
        let leased = place.folder.lease(&place.entry).await;
        let wanted = match &leased {
            Ok(Some(lease)) if lease.size() > 0 => Some(session.announce(Verb::Mv, lease.size()).await?),
            _ => None,
        };
        Ok::<_, SessionEnd>((leased, wanted))
    };
    let (settled, announced) = tokio::join!(settle(beside), announced);
    settled?;
    let (leased, wanted) = announced?;
    let mut lease = match leased {
        Ok(Some(lease)) => lease,
        Ok(None) => {
            let why = "no such file, or another reader has it";
            return session.refuse(Verb::Mv, name, Refusal::Unsaid, &why).await;
        }
        Err(error) => return session.refuse(Verb::Mv, name, Refusal::Unsaid, &error).await,
    };
    let size = lease.size();
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => session.announce(Verb::Mv, size).await?,
    };
    if wanted {
        let passing = send_body(session, lease.reader()).await?;
        session.transferred(Verb::Mv, name, size, "file handed out", passing);
        session.handed_out = Some(lease);
    } else {
        session.ended(Verb::Mv, "declined", &"the client does not want it");
    }
    Ok(())
}
