//! `LS`: the names in a folder.

use protocol::{Refusal, Verb};

use crate::session::{Session, SessionEnd};

/// Announces the list, and sends it if the client agrees.
pub(crate) async fn run(session: &mut Session, filter: &[u8]) -> Result<(), SessionEnd> {
    let folder = match session.site.listed(filter) {
        Ok(folder) => folder,
        Err(why) => return session.refuse(Verb::Ls, filter, Refusal::Unsaid, &why).await,
    };
    let site = session.site.clone();
    let waiting = tokio::time::timeout(site.deadline.as_duration(), site.listings.acquire());
    let Ok(_permit) = waiting.await else {
        return session.refuse(Verb::Ls, filter, Refusal::Unsaid, &"too many lists are being sent").await;
    };
    let rules = site.rules.clone();
    let mut list = match folder.list(move |name| rules.check(name).is_ok()).await {
        Ok(list) => list,
        Err(error) => return session.refuse(Verb::Ls, filter, Refusal::Unsaid, &error).await,
    };
    // The peers' list holds these two, and their client breaks on an empty one.
    list.extend_from_slice(b".\n..\n");
    if session.announce(Verb::Ls, list.len() as u64).await? {
        session.connection.write_body(&list).await?;
    }
    Ok(())
}
