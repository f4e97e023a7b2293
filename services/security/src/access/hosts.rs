//! hosts.allow and hosts.deny, as hosts_access(5) has them.
//!
//! The first rule of hosts.allow that matches lets a client in; else the
//! first of hosts.deny that matches keeps it out; else it is let in. Rules for
//! other programs are passed over, whatever they hold. What a rule for this
//! one does beyond that (its options and commands) is refused, as a rule that
//! is passed over would let in whom it keeps out.

use std::{
    fs, io, mem,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ipnet::{IpNet, Ipv4Net};
use wildmatch::WildMatch;

use super::{canonical, names::Names, with_length};

/// Where both files are, and what they call this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostsPaths {
    pub(super) allow: PathBuf,
    pub(super) deny: PathBuf,
    /// Whether it is wrong that hosts.deny is not there: so where somebody
    /// has said where it is.
    pub(super) deny_is_needed: bool,
    pub(super) daemon: &'static str,
}

/// Reads both files again and again, and does not believe at first sight that
/// hosts.deny keeps nobody out any more: an editor may be at work on it.
#[derive(Debug)]
pub(super) struct HostsReader {
    paths: HostsPaths,
    before: Mutex<Before>,
}

/// What the last reading has left behind.
#[derive(Debug, Default)]
struct Before {
    /// Whether the rules in use keep anybody out.
    denies: bool,
    /// Whether hosts.deny was found without a rule, and not believed.
    doubted: bool,
}

/// The clients of each rule for this program, of both files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostsFiles {
    allow: Vec<Clients>,
    deny: Vec<Clients>,
}

type Clients = List<Pattern>;

/// `a b EXCEPT c d`; what follows `EXCEPT` may have one itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct List<P> {
    any: Vec<P>,
    except: Option<Box<List<P>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    All,
    /// A name without a dot.
    Local,
    /// A name that can be found.
    Known,
    Unknown,
    /// `192.168.`
    Prefix(String),
    /// `.example.com`
    Suffix(String),
    Network(IpNet),
    Name(String),
}

/// A client as rules see it.
struct Client {
    address: IpAddr,
    /// In lower case.
    name: Option<String>,
}

// === impl HostsPaths ===

impl HostsPaths {
    /// Reads both; one that is not there, and need not be, is as if empty.
    /// Blocks.
    ///
    /// # Errors
    /// One line with the file, the line and what is wrong.
    pub(super) fn read(&self) -> Result<HostsFiles, String> {
        let read = |path, is_needed| read(path, is_needed, self.daemon);
        Ok(HostsFiles { allow: read(&self.allow, false)?, deny: read(&self.deny, self.deny_is_needed)? })
    }
}

// === impl HostsReader ===

impl HostsReader {
    pub(super) fn new(paths: HostsPaths) -> Self {
        Self { paths, before: Mutex::default() }
    }

    /// Reads both. Blocks.
    ///
    /// # Errors
    /// Those of [`HostsPaths::read`], and once where hosts.deny has lost all
    /// of its rules: the next time, it is believed.
    pub(super) fn read(&self) -> Result<HostsFiles, String> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let doubted = mem::take(&mut before.doubted);
        let files = self.paths.read()?;
        let (denies, deny) = (!files.deny.is_empty(), self.paths.deny.display());
        if before.denies && !denies {
            if !doubted {
                before.doubted = true;
                return Err(format!("{deny}: no rule is left (it is looked at once more)"));
            }
            tracing::warn!("{deny}: no rule is left: it keeps nobody out");
        }
        before.denies = denies;
        Ok(files)
    }
}

// === impl HostsFiles ===

impl HostsFiles {
    /// Whether a client of this address is served. Its name is asked for
    /// where a rule that has names is reached.
    pub(super) async fn admit(&self, address: IpAddr, names: &Names) -> bool {
        let mut client = Client { address, name: None };
        let mut asked = false;
        for (rules, admits) in [(&self.allow, true), (&self.deny, false)] {
            for rule in rules {
                if !asked && rule.has_names() {
                    client.name = names.of(address).await;
                    asked = true;
                }
                if rule.matches(&|pattern| client.is(pattern)) {
                    return admits;
                }
            }
        }
        true
    }
}

/// Whether files of these texts let a client of this address and name in: what
/// fuzzing tries, without files and a resolver.
///
/// # Errors
/// The line that is wrong, and why.
#[doc(hidden)]
pub async fn admits(
    allow: &str,
    deny: &str,
    daemon: &str,
    address: IpAddr,
    name: Option<&str>,
) -> Result<bool, String> {
    let read = |text| parse(text, daemon).map_err(|(line, why)| format!("line {line}: {why}"));
    let files = HostsFiles { allow: read(allow)?, deny: read(deny)? };
    let name = name.map(str::to_lowercase);
    Ok(files.admit(address.to_canonical(), &Names::by(move |_| name.clone())).await)
}

fn read(path: &Path, is_needed: bool, daemon: &str) -> Result<Vec<Clients>, String> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_needed => return Ok(Vec::new()),
        text => text.map_err(|error| format!("{}: cannot be read: {error}", path.display()))?,
    };
    // A comment may be older than UTF-8.
    parse(&String::from_utf8_lossy(&text), daemon)
        .map_err(|(line, why)| format!("{} line {line}: {why}", path.display()))
}

/// The rules for `daemon`, or the line that is wrong and why.
fn parse(text: &str, daemon: &str) -> Result<Vec<Clients>, (usize, String)> {
    let mut rules = Vec::new();
    let (mut rule, mut began) = (String::new(), 0);
    for (at, line) in text.lines().enumerate() {
        if rule.is_empty() {
            began = at + 1;
        }
        if let Some(continued) = line.strip_suffix('\\') {
            rule.push_str(continued);
            rule.push(' ');
            continue;
        }
        rule.push_str(line);
        let whole = std::mem::take(&mut rule);
        let whole = whole.trim();
        if !whole.is_empty() && !whole.starts_with('#') {
            let shown = |why| format!("{:?}: {why}", whole.chars().take(MAX_SHOWN).collect::<String>());
            rules.extend(parse_rule(whole, daemon).map_err(|why| (began, shown(why)))?);
        }
    }
    if rule.trim().is_empty() {
        Ok(rules)
    } else {
        Err((began, "the last line ends in a backslash".to_owned()))
    }
}

/// None for a rule that is for other programs.
fn parse_rule(line: &str, daemon: &str) -> Result<Option<Clients>, String> {
    let fields = fields(line);
    let daemons = parse_list(fields[0], &|word| is_named(daemon, word))?;
    if !daemons.matches(&|is_ours| *is_ours) {
        return Ok(None);
    }
    match &fields[1..] {
        [clients] => parse_list(clients, &client).map(Some),
        [] => Err("a rule is DAEMONS : CLIENTS".to_owned()),
        _ => Err(
            "options and commands behind the second colon are not carried out (write the rule without them)"
                .to_owned(),
        ),
    }
}

/// Splits at colons, but for those of IPv6 within brackets.
fn fields(line: &str) -> Vec<&str> {
    let mut within = 0_u32;
    line.split(|letter| {
        match letter {
            '[' => within += 1,
            ']' => within = within.saturating_sub(1),
            _ => {}
        }
        letter == ':' && within == 0
    })
    .map(str::trim)
    .collect()
}

fn parse_list<P>(text: &str, pattern: &dyn Fn(&str) -> Result<P, String>) -> Result<List<P>, String> {
    let words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty());
    let mut parts = vec![Vec::new()];
    for word in words {
        if word.eq_ignore_ascii_case("EXCEPT") {
            parts.push(Vec::new());
        } else {
            parts.last_mut().expect("there is one from the start").push(pattern(word)?);
        }
    }
    if parts.iter().any(Vec::is_empty) {
        return Err("a list is empty".to_owned());
    }
    // Each stands within the one before it, down a thread's stack.
    if parts.len() > MAX_PARTS {
        return Err(format!("a list has more than {} EXCEPT", MAX_PARTS - 1));
    }
    let list =
        parts.into_iter().rev().fold(None, |except, any| Some(List { any, except: except.map(Box::new) }));
    list.ok_or_else(|| "a list is empty".to_owned())
}

/// Whether this word of a list of programs names `daemon`. What depends on
/// more than the name is refused, unless the name settles it.
fn is_named(daemon: &str, word: &str) -> Result<bool, String> {
    // `program@address`: only where the server has that address.
    let (name, depends) = word.split_once('@').map_or((word, false), |(name, _)| (name, true));
    let pattern = WildMatch::new(&name.to_ascii_lowercase());
    let may_be = name.eq_ignore_ascii_case("ALL") || name.contains('/') || pattern.matches(daemon);
    if may_be && (depends || name.contains(['/', '*', '?'])) {
        return Err(format!("{word}: a program's name or ALL is needed"));
    }
    Ok(may_be)
}

fn client(word: &str) -> Result<Pattern, String> {
    let unknown = || format!("{word}: this kind of pattern is not known here");
    // libwrap compares without regard to case (strcasecmp).
    match word.to_ascii_uppercase().as_str() {
        "ALL" => return Ok(Pattern::All),
        "LOCAL" => return Ok(Pattern::Local),
        "KNOWN" => return Ok(Pattern::Known),
        "UNKNOWN" => return Ok(Pattern::Unknown),
        "PARANOID" => return Err(unknown()),
        _ if word.starts_with('/') || word.contains(['@', '*', '?']) => return Err(unknown()),
        _ => {}
    }
    if let Some((address, mask)) = word.split_once('/') {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if let (Ok(address), Ok(mask)) = (address.parse::<Ipv4Addr>(), mask.parse::<Ipv4Addr>()) {
            let network = Ipv4Net::with_netmask(address, mask);
            return network.map(|network| Pattern::Network(network.into())).map_err(|_| unknown());
        }
        let network = with_length(address, mask).and_then(canonical);
        return network.map(Pattern::Network).ok_or_else(unknown);
    }
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Pattern::Network(address.to_canonical().into()));
    }
    match word {
        _ if word.starts_with('.') => Ok(Pattern::Suffix(word.to_lowercase())),
        _ if word.ends_with('.') => Ok(Pattern::Prefix(word.to_owned())),
        _ if word.contains(['[', ']']) => Err(unknown()),
        _ => Ok(Pattern::Name(word.to_lowercase())),
    }
}

impl<P> List<P> {
    fn matches(&self, is: &dyn Fn(&P) -> bool) -> bool {
        self.any.iter().any(is) && !self.except.as_ref().is_some_and(|except| except.matches(is))
    }
}

impl List<Pattern> {
    fn has_names(&self) -> bool {
        let by_address =
            |pattern: &Pattern| matches!(pattern, Pattern::All | Pattern::Prefix(_) | Pattern::Network(_));
        !self.any.iter().all(by_address) || self.except.as_ref().is_some_and(|except| except.has_names())
    }
}

impl Client {
    fn is(&self, pattern: &Pattern) -> bool {
        let name = self.name.as_deref();
        match pattern {
            Pattern::All => true,
            Pattern::Local => name.is_some_and(|name| !name.contains('.')),
            Pattern::Known => name.is_some(),
            Pattern::Unknown => name.is_none(),
            Pattern::Prefix(prefix) => self.address.to_string().starts_with(prefix),
            Pattern::Suffix(suffix) => name.is_some_and(|name| name.ends_with(suffix)),
            Pattern::Network(network) => network.contains(&self.address),
            Pattern::Name(wanted) => name == Some(wanted),
        }
    }
}

/// Characters of a rule in a message.
const MAX_SHOWN: usize = 200;

/// Parts of a list with `EXCEPT` between them: more than anybody understands.
const MAX_PARTS: usize = 100;

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use super::*;

    const DAEMON: &str = "tentacle_server";

    fn files(allow: &str, deny: &str) -> HostsFiles {
        HostsFiles { allow: parse(allow, DAEMON).unwrap(), deny: parse(deny, DAEMON).unwrap() }
    }

    async fn admits(files: &HostsFiles, address: &str) -> bool {
        files.admit(address.parse().unwrap(), &Names::default()).await
    }

    #[tokio::test]
    async fn the_first_match_of_allow_then_of_deny_decides() {
        let both = files("tentacle_server: 10.0.0.0/8\n", "ALL: ALL\n");
        assert!(admits(&both, "10.1.2.3").await && !admits(&both, "192.0.2.1").await);
        let none = files("", "");
        assert!(admits(&none, "192.0.2.1").await);
        let other = files("", "sshd: ALL\n");
        assert!(admits(&other, "192.0.2.1").await);
    }

    #[tokio::test]
    async fn addresses_are_matched_in_every_form() {
        for (pattern, yes, no) in [
            ("192.168.", "192.168.7.1", "192.169.7.1"),
            ("131.155.72.0/255.255.254.0", "131.155.73.255", "131.155.74.0"),
            ("10.1.0.0/16", "10.1.9.9", "10.2.0.1"),
            ("[::ffff:10.1.0.0]/112", "10.1.9.9", "10.2.0.1"),
            ("[2001:db8::]/32", "2001:db8:7::1", "2001:db9::1"),
            ("[::1]", "::1", "::2"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("10. EXCEPT 10.2. EXCEPT 10.2.3.", "10.2.3.4", "10.2.4.4"),
            ("ALL EXCEPT 10.0.0.1, 10.0.0.2", "10.0.0.3", "10.0.0.2"),
        ] {
            let files = files(&format!("ALL: {pattern}"), "ALL: ALL");
            assert!(admits(&files, yes).await, "{pattern}: {yes}");
            assert!(!admits(&files, no).await, "{pattern}: {no}");
        }
        let except = files("ALL EXCEPT tentacle_server: ALL", "ALL: ALL");
        assert!(!admits(&except, "10.0.0.1").await);
    }

    #[tokio::test]
    async fn words_are_compared_without_regard_to_case() {
        for (deny, kept_out) in [
            ("all: all", true),
            ("Tentacle_Server: All", true),
            ("ALL: ALL except 127.0.0.1", false),
            ("all except TENTACLE_SERVER: all", false),
            ("all: known except Local", false),
            ("all: known", true),
        ] {
            assert_eq!(admits(&files("", deny), "127.0.0.1").await, !kept_out, "{deny}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_a_rule_that_has_names_is_reached() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let names = Names::by(move |_| {
            count.fetch_add(1, SeqCst);
            Some("web01.example".to_owned())
        });
        let address = "10.0.0.1".parse().unwrap();
        for (allow, deny, admitted, looked_up) in [
            ("ALL: 10.", "ALL: .example", true, 0),
            ("sshd: .example\nALL: 10.", "ALL: ALL", true, 0),
            ("ALL: 192.168.", "ALL: ALL\nALL: KNOWN", false, 0),
            ("ALL: 192.168.", "ALL: web01.example\nALL: LOCAL", false, 1),
        ] {
            assert_eq!(files(allow, deny).admit(address, &names).await, admitted, "{allow}; {deny}");
            assert_eq!(asked.load(SeqCst), looked_up, "{allow}; {deny}");
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_where_a_rule_has_them() {
        let local = files("ALL: localhost", "ALL: ALL");
        assert!(admits(&local, "127.0.0.1").await);
        // Nobody's (RFC 5737).
        assert!(!admits(&local, "192.0.2.1").await);
        let suffix = files("ALL: .example.com KNOWN EXCEPT LOCAL", "ALL: ALL");
        assert!(!admits(&suffix, "127.0.0.1").await);
    }

    #[test]
    fn a_list_of_endless_exceptions_is_refused() {
        let rule = |count| format!("ALL: {}10.0.0.1", "10. EXCEPT ".repeat(count));
        assert!(parse(&rule(99), DAEMON).is_ok());
        for count in [100, 1_000_000] {
            let (_, why) = parse(&rule(count), DAEMON).unwrap_err();
            assert!(why.ends_with("a list has more than 99 EXCEPT") && why.len() < 300, "{count}: {why}");
        }
    }

    #[test]
    fn comments_and_continued_lines_are_read() {
        let rules = parse("# a comment: x: y\n\ntentacle_server : \\\n 10. \\\n 192.168.\n", DAEMON).unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].any.len(), 2);
    }

    #[test]
    fn rules_for_other_programs_are_passed_over_whatever_they_hold() {
        for rule in [
            "sshd: ALL: allow",
            "sshd, in.*: @admins",
            "sshd: /etc/hosts.admins",
            "in.ftpd@10.0.0.1: ALL",
            "ALL EXCEPT Tentacle_Server: ALL: spawn /bin/date",
            "sshd: 2001:db8::1",
            "sshd",
        ] {
            assert_eq!(parse(rule, DAEMON), Ok(Vec::new()), "{rule}");
        }
        let except = parse("ALL EXCEPT in.ftpd@10.0.0.1: 10.", DAEMON).unwrap();
        assert_eq!(except.len(), 1);
    }

    #[test]
    fn a_comment_may_hold_any_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.deny");
        fs::write(&path, b"# f\xfcr alle\nALL: ALL\n").unwrap();
        assert_eq!(read(&path, true, DAEMON).unwrap().len(), 1);
    }

    #[test]
    fn that_hosts_deny_keeps_nobody_out_any_more_is_believed_at_the_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let deny = folder.path().join("deny");
        let reader = |deny_is_needed| {
            let (allow, deny) = (folder.path().join("allow"), deny.clone());
            HostsReader::new(HostsPaths { allow, deny, deny_is_needed, daemon: DAEMON })
        };
        let denied = |read: Result<HostsFiles, String>| read.map(|files| files.deny.len());
        fs::write(&deny, "ALL: ALL\n").unwrap();
        let (given, default) = (reader(true), reader(false));
        assert_eq!(denied(given.read()), Ok(1));
        assert_eq!(denied(default.read()), Ok(1));
        for text in [Some(""), None, Some("# ALL: ALL\n")] {
            let empty = || match text {
                Some(text) => fs::write(&deny, text).unwrap(),
                None => fs::remove_file(&deny).unwrap(),
            };
            empty();
            assert!(denied(default.read()).unwrap_err().contains("deny: no rule is left"));
            // The editor was at work.
            fs::write(&deny, "ALL: ALL\nALL: 10.\n").unwrap();
            assert_eq!(denied(default.read()), Ok(2));
            empty();
            assert!(default.read().is_err());
            assert_eq!(denied(default.read()), Ok(0));
            assert_eq!(denied(default.read()), Ok(0));
            fs::write(&deny, "ALL: ALL\n").unwrap();
            assert_eq!(denied(default.read()), Ok(1));
        }
        // Where it was said where it is, it must be there.
        fs::remove_file(&deny).unwrap();
        assert!(given.read().is_err() && given.read().is_err());
    }

    #[test]
    fn what_is_not_carried_out_is_refused_with_its_line() {
        for (text, line, said) in [
            ("ALL: ALL\nALL: 10.: spawn /bin/date\n", 2, "behind the second colon"),
            ("ALL: ALL: deny\n", 1, "behind the second colon"),
            ("\nALL\n", 2, "DAEMONS : CLIENTS"),
            ("ALL: /etc/hosts.list\n", 1, "/etc/hosts.list: this kind"),
            ("ALL: @netgroup\n", 1, "@netgroup"),
            ("ALL: root@10.0.0.1\n", 1, "root@10.0.0.1"),
            ("ALL: PARANOID\n", 1, "PARANOID"),
            ("all: paranoid\n", 1, "paranoid"),
            ("ALL: *.example.com\n", 1, "*.example.com"),
            ("ALL: 10.0.0.0/33\n", 1, "10.0.0.0/33"),
            ("ALL: [::ffff:10.0.0.0]/8\n", 1, "::ffff:10.0.0.0"),
            ("ALL: ALL EXCEPT\n", 1, "a list is empty"),
            ("ALL:\n", 1, "a list is empty"),
            ("sshd, tentacle_server@10.0.0.1: ALL\n", 1, "tentacle_server@10.0.0.1: a program's name"),
            ("all@10.0.0.1: ALL\n", 1, "all@10.0.0.1: a program's name"),
            ("TENTACLE_*: ALL\n", 1, "TENTACLE_*: a program's name"),
            ("/etc/daemons: ALL\n", 1, "/etc/daemons: a program's name"),
            ("ALL: 10. \\\n", 1, "ends in a backslash"),
        ] {
            let (at, why) = parse(text, DAEMON).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}
