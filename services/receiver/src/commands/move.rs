//! `MV`: a file is fetched, and leaves once its reader has shown that it has
//! it.

use protocol::{Refusal, Verb};

use super::receive::send_body;
use crate::session::{Session, SessionEnd, settle};

/// Announces the file and sends it if the client agrees; the client's next
/// command removes it.
pub(crate) async fn run(session: &mut Session, name: &[u8]) -> Result<(), SessionEnd> {
    let place = match session.site.place(name) {
        Ok(place) => place,
        Err(why) => {
            settle(session.handed_out.take()).await?;
            return session.refuse(Verb::Mv, name, Refusal::Unsaid, &why).await;
        }
    };
    // The name that was just handed out may stand for a newer file by now,
    // which is offered once the older one has been given up.
    if session.handed_out.as_ref().is_some_and(|lease| *lease.name() == place.entry) {
        settle(session.handed_out.take()).await?;
    }
    // The file is opened while the one before it leaves the disk.
    let leased = place.folder.lease(&place.entry);
    let (settled, leased) = tokio::join!(settle(session.handed_out.take()), leased);
    settled?;
    let mut lease = match leased {
        Ok(Some(lease)) => lease,
        Ok(None) => {
            let why = "no such file, or another reader has it";
            return session.refuse(Verb::Mv, name, Refusal::Unsaid, &why).await;
        }
        Err(error) => return session.refuse(Verb::Mv, name, Refusal::Unsaid, &error).await,
    };
    let size = lease.reader().size();
    if session.announce(Verb::Mv, size).await? {
        send_body(session, lease.reader()).await?;
        session.log_file(Verb::Mv, name, size, "file handed out");
        session.handed_out = Some(lease);
    }
    Ok(())
}
