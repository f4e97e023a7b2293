//! A client is let in by hosts.allow, or because hosts.deny does not keep it
//! out; and by no other thing about the files.

use std::net::IpAddr;

use security::admits;

/// The first line is a client's address, with a name behind it or without;
/// then hosts.allow, a line `===`, and hosts.deny.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (client, files) = text.split_once('\n').unwrap_or((&text, ""));
    let (allow, deny) = files.split_once("\n===\n").unwrap_or((files, ""));
    let (address, name) = client.split_once(' ').map_or((client, None), |(at, name)| (at, Some(name)));
    let address = address.parse().unwrap_or(IpAddr::from([10, 0, 0, 1]));
    let verdict = |allow: &str, deny: &str| admitted(allow, deny, address, name);

    let whole = verdict(allow, deny);
    match &whole {
        Ok(admitted) => {
            let by_allow = verdict(allow, "ALL: ALL").expect("it has been read");
            let by_deny = verdict("", deny).expect("it has been read");
            assert_eq!(*admitted, by_allow || by_deny, "allow {by_allow}, deny {by_deny}");
        }
        Err(why) => assert!(why.starts_with("line ") && !why.contains('\n'), "{why:?} is more than a line"),
    }
    assert_eq!(verdict(allow, deny), whole);
    // hosts_access(5) compares without regard to case.
    let shouted = verdict(&allow.to_ascii_uppercase(), &deny.to_ascii_uppercase());
    assert_eq!(shouted.ok(), whole.ok(), "in capitals");
}

fn admitted(allow: &str, deny: &str, address: IpAddr, name: Option<&str>) -> Result<bool, String> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime of one thread needs nothing");
    }
    RUNTIME.with(|runtime| runtime.block_on(admits(allow, deny, "tentacle_server", address, name)))
}
