//! Which folder of the spool a name belongs to (`-i "regexp:folder;regexp:folder"`).

use std::fmt;
use std::sync::Arc;

use fancy_regex::{BytesMode, Regex, RegexBuilder};

mod perl;

/// Patterns and their folders, compiled and in order. The default has none: every name is in the root.
///
/// Patterns are Perl's and match bytes, as the peers' do (`docs/protocol.md`, "Filters"): a name need not be
/// UTF-8, `.` is one byte, `\w` is ASCII. One thing is kinder than Perl: a backslash before a letter that could
/// only mean a control character, a later Perl's syntax or nothing is that letter, so that the documented
/// `.*\conf:conf;.*\md5:md5;.*\zip:collections` sorts as its author meant it.
///
/// A clone shares the patterns.
#[derive(Clone, Default)]
pub struct Filters(Arc<[Filter]>);

impl Filters {
    /// Compiles `regexp:folder;regexp:folder`.
    ///
    /// A pair is split at its last `:`; one without is passed over. Trailing `/`s of a folder are dropped; an
    /// empty folder is the root.
    ///
    /// # Errors
    /// [`FilterError::Pattern`] for what is no Perl pattern or uses what is not supported (code, recursion, most
    /// Unicode properties), [`FilterError::Folder`] for a folder that is not strictly below the root.
    pub fn parse(pairs: &str) -> Result<Self, FilterError> {
        pairs
            .split(';')
            .filter_map(|pair| pair.rsplit_once(':'))
            .map(|(pattern, folder)| Filter::new(pattern, folder))
            .collect::<Result<Arc<[_]>, _>>()
            .map(Self)
    }

    /// The folder of the first pattern that matches anywhere in `name`; empty is the root.
    ///
    /// # Errors
    /// [`FilterError::TooComplex`] when a pattern does not come to an end within its bound on this name, so that
    /// no name can hold up the process. The name has no folder then: refuse the file.
    pub fn folder_for(&self, name: &[u8]) -> Result<&str, FilterError> {
        for filter in self.0.iter() {
            match filter.regex.is_match(name) {
                Ok(true) => return Ok(&filter.folder),
                Ok(false) => {}
                Err(_) => {
                    return Err(FilterError::TooComplex { pattern: filter.shown_pattern() });
                }
            }
        }
        Ok("")
    }

    /// Every folder but the root, once each, in the order of the filters.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        let seen_before = |at: usize| self.0[..at].iter().any(|earlier| earlier.folder == self.0[at].folder);
        (0..self.0.len())
            .map(move |at| (seen_before(at), self.0[at].folder.as_str()))
            .filter(|(seen, folder)| !seen && !folder.is_empty())
            .map(|(_, folder)| folder)
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|filter| (&filter.pattern, &filter.folder))).finish()
    }
}

/// Why filters cannot be used, or cannot tell a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The part before the last `:` is no pattern.
    #[error("filter '{pair}': the pattern is not valid: {reason}")]
    Pattern {
        /// The pair as it was given.
        pair: String,
        /// What is wrong with it, in one line.
        reason: String,
    },
    /// The part after the last `:` is no folder below the root.
    #[error("filter '{pair}': the folder {reason} (give a path below the spool, such as 'conf' or 'a/b')")]
    Folder {
        /// The pair as it was given.
        pair: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A pattern needs more steps on a name than it is given.
    #[error("filter pattern '{pattern}': gave up on a name after too many steps (make the pattern simpler)")]
    TooComplex {
        /// The pattern as it was given.
        pattern: String,
    },
}

struct Filter {
    /// As it was given, for messages.
    pattern: String,
    regex: Regex,
    folder: String,
}

impl Filter {
    fn new(pattern: &str, folder: &str) -> Result<Self, FilterError> {
        let pair = || format!("{pattern}:{folder}").escape_debug().to_string();
        let invalid = |reason: String| FilterError::Pattern { pair: pair(), reason: in_one_line(&reason) };

        let regex = perl::translate(pattern.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let regex = compile(&regex).map_err(|error| invalid(error.to_string()))?;
        let folder = check_folder(folder).map_err(|reason| FilterError::Folder { pair: pair(), reason })?;
        Ok(Self { pattern: pattern.to_owned(), regex, folder: folder.to_owned() })
    }

    fn shown_pattern(&self) -> String {
        self.pattern.escape_debug().to_string()
    }
}

fn compile(regex: &str) -> fancy_regex::Result<Regex> {
    RegexBuilder::new(regex)
        .bytes_mode(BytesMode::Ascii)
        .backtrack_limit(BACKTRACK_LIMIT)
        .delegate_size_limit(COMPILED_BYTES)
        .delegate_dfa_size_limit(COMPILED_BYTES)
        .max_prog_size(INSTRUCTIONS)
        .build()
}

fn check_folder(folder: &str) -> Result<&str, &'static str> {
    if folder.starts_with('/') {
        return Err("is absolute");
    }
    if folder.contains('\0') {
        return Err("holds a NUL");
    }
    let folder = folder.trim_end_matches('/');
    if folder.is_empty() {
        return Ok(folder);
    }
    match folder.split('/').find(|part| matches!(*part, "" | "." | "..")) {
        Some("") => Err("has an empty part"),
        Some(_) => Err("has a part that is '.' or '..'"),
        None => Ok(folder),
    }
}

/// The engine draws carets below what it complains about, and repeats a part
/// of the pattern as it is.
fn in_one_line(reason: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let words: Vec<_> = reason.split_whitespace().collect();
    words.join(" ").chars().map(escaped).collect()
}

/// Steps back of one pattern on one name: some milliseconds of a core at worst.
const BACKTRACK_LIMIT: usize = 50_000;

/// Memory of one compiled pattern, in bytes; patterns for file names need a few kB.
const COMPILED_BYTES: usize = 1 << 20;

/// Instructions of one pattern that needs backtracking.
const INSTRUCTIONS: usize = 20_000;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn folder(filters: &Filters, name: impl AsRef<[u8]>) -> &str {
        filters.folder_for(name.as_ref()).unwrap()
    }

    fn matches(pattern: &str, name: impl AsRef<[u8]>) -> bool {
        folder(&Filters::parse(&format!("{pattern}:hit")).unwrap(), name) == "hit"
    }

    #[test]
    fn the_documented_filters_sort_as_their_author_meant() {
        let filters = Filters::parse(r".*\conf:conf;.*\md5:md5;.*\zip:collections").unwrap();
        for (name, expected) in [
            ("x.conf", "conf"),
            ("x.md5", "md5"),
            ("x.zip", "collections"),
            ("x.data", ""),
            (".conf", "conf"),
        ] {
            assert_eq!(folder(&filters, name), expected, "{name}");
        }
        assert_eq!(filters.folders().collect::<Vec<_>>(), ["conf", "md5", "collections"]);
    }

    #[test]
    fn the_stock_filters_sort_every_kind_of_file() {
        let filters = Filters::parse(
            r".*\.conf:conf;.*\.md5:md5;.*\.zip:collections;.*\.lock:trans;.*\.rcmd:commands;.*\.agent_setup\.exe:agent;.*\.agent_setup\.tar\.gz:agent",
        )
        .unwrap();
        for (name, expected) in [
            ("a.conf", "conf"),
            ("a.md5", "md5"),
            ("a.zip", "collections"),
            ("a.lock", "trans"),
            ("a.rcmd", "commands"),
            ("a.agent_setup.exe", "agent"),
            ("a.agent_setup.tar.gz", "agent"),
            ("aconf", ""),
            ("a.data", ""),
        ] {
            assert_eq!(folder(&filters, name), expected, "{name}");
        }
        assert_eq!(filters.folders().last(), Some("agent"));
        assert_eq!(filters.folders().count(), 6);
    }

    #[test]
    fn the_first_match_anywhere_in_the_name_wins() {
        let filters = Filters::parse("b:one;abc:two;z$:three").unwrap();
        assert_eq!(folder(&filters, "abc"), "one");
        assert_eq!(folder(&filters, "xyz"), "three");
        assert_eq!(folder(&Filters::default(), "abc"), "");
    }

    #[test]
    fn a_pair_is_split_at_its_last_colon_and_passed_over_without_one() {
        let filters = Filters::parse(r"nothing;(?:a|b)\.x:f/;;c:").unwrap();
        assert_eq!(folder(&filters, "b.x"), "f");
        assert_eq!(folder(&filters, "nothing"), "");
        assert_eq!(filters.folders().collect::<Vec<_>>(), ["f"]);
    }

    #[test]
    fn a_folder_that_leaves_the_spool_is_refused() {
        for bad in ["/etc", "/", "..", "a/../b", "./a", "a//b", "a/.", "a\0b"] {
            let error = Filters::parse(&format!("x:{bad}")).unwrap_err();
            assert!(matches!(error, FilterError::Folder { .. }), "{bad}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        assert_eq!(folder(&Filters::parse("x:a/b//").unwrap(), "x"), "a/b");
    }

    #[test]
    fn a_pattern_that_is_none_is_named_in_one_line() {
        for bad in [
            "(",
            "[",
            "a[z-a]",
            "*",
            "\\",
            r"\2",
            r"(a)\g{2}",
            r"\x{100}",
            "[[:no:]]",
            "(?{1})",
            r"\p{Greek}",
            "(?R)",
        ] {
            let message = Filters::parse(&format!("ok:o;{bad}:f")).unwrap_err().to_string();
            assert_eq!(message.lines().count(), 1, "{message}");
            assert!(message.contains(&*format!("{bad}:f").escape_debug().to_string()), "{message}");
        }
    }

    #[test]
    fn a_control_character_of_a_pattern_is_not_shown_as_it_is() {
        let message = Filters::parse("(?\u{1}i)a:f").unwrap_err().to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }

    #[test]
    fn patterns_mean_what_they_mean_in_perl() {
        for (pattern, hit, miss) in [
            (r"^a\.b\z", "a.b", "a.b.c"),
            (r"(?:x|a\z)", "ba", "ab"),
            (r"a\Z", "ba", "ab"),
            (r"\Aa$", "a", "ba"),
            (r"^\d+\w\s$", "12a ", "a12 "),
            (r"^a\hb$", "a\tb", "a-b"),
            (r"^a\Hb$", "a-b", "a b"),
            (r"^\Qa.b\E.$", "a.bx", "axbx"),
            (r"^\Qa+", "a+", "aa"),
            (r"^\x41\x{42}\103\o{104}$", "ABCD", "x41"),
            (r"^\@\-\_\ $", "@-_ ", "@-_"),
            (r"^[\w.-]+$", "a-b.c_9", "a b"),
            (r"^[]a]+$", "]a]", "b"),
            (r"^[^]a]+$", "bc", "b]"),
            (r"^[a-c\-]+$", "a-c", "d"),
            (r"^[[a]+$", "[a[", "b"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[+--]+$", "+,-", "."),
            (r"^[[:alpha:]\d]+$", "a1", "a_"),
            (r"^[^[:^alpha:]]+$", "ab", "a1"),
            (r"^[\t\n]$", "\t", "t"),
            (r"^(a|b)\1$", "aa", "ab"),
            (r"^(a)(b)\g{-1}\g1$", "abba", "abab"),
            (r"^(?<x>a|b)\k{x}$", "bb", "ba"),
            (r"(?i)\.conf$", "A.CONF", "A.CON"),
            (r"^(?i:a)b$", "Ab", "AB"),
            (r"^(?!a).*\.x$", "b.x", "a.x"),
            (r"(?<=a)\.x$", "a.x", "b.x"),
            (r"^a++b(?>c|cd)$", "aabc", "aabcd"),
            (r"^a{2,3}$", "aaa", "aaaa"),
            (r"^a{x}$", "a{x}", "ax"),
            (r"(?x) ^ a \  b $ # blank", "a b", "ab"),
            (r"\.xml$", "a.xml", "a.ml"),
            (r".*\xml$", "a.xml", "a.lm"),
            (r".*\txt$", "a.txt", "a.xt"),
            (r".*\rcmd$", "a.rcmd", "a.cmd"),
            (r".*\gz$", "a.gz", "a.z"),
            (r".*\png$", "a.png", "a.ng"),
            (r".*\exe$", "a.exe", "a.xe"),
            (r".*\kml$", "a.kml", "a.ml"),
            (r"\bfoo\b", "a foo b", "afoob"),
            (r"^\<\>$", "<>", "a"),
        ] {
            assert!(matches(pattern, hit), "{pattern} is to match {hit}");
            assert!(!matches(pattern, miss), "{pattern} is not to match {miss}");
        }
    }

    #[test]
    fn names_are_matched_as_bytes() {
        assert!(matches(r"^.\.x$", b"\xff.x"));
        assert!(matches(r"^..\.x$", "é.x"));
        assert!(matches(r"^é+\.x$", "é.x"));
        assert!(matches(r"^[é]{2}$", "é"));
        assert!(matches(r"^(?!a)[\x80-\xff]+$", b"\xff\x80"));
        assert!(matches(r"^(.)\1$", b"\xff\xff"));
        assert!(!matches(r"\w", b"\xe9"));
        assert!(!matches(r"^(.)\1$", "é"));
    }

    #[test]
    fn a_pattern_that_does_not_end_is_given_up() {
        let name = [&[b'a'; 250][..], b"!"].concat();
        for pattern in
            [r"^(a|aa|a?)*\1b$", r"^(?=(a+)+$)b", r"((a*)*)*\2c", r"(?=a)(a+)+$", r"(.*)(.*)(.*)(.*)\4\3x"]
        {
            let filters = Filters::parse(&format!("{pattern}:f")).unwrap();
            let start = Instant::now();
            let _ = filters.folder_for(&name);
            assert!(start.elapsed() < Duration::from_secs(2), "{pattern}: {:?}", start.elapsed());
        }
        let filters = Filters::parse(r"^(a|aa|a?)*\1b$:f").unwrap();
        let error = filters.folder_for(&name).unwrap_err();
        assert!(matches!(error, FilterError::TooComplex { .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_filter_and_no_name_panics(
            pattern in r"([\\\[\]()|*+?{}^$.:;,=!<>&~#0-9a-zA-Z \-]|\\[a-zA-Z0-9]|\(\?|\[[:^]|é){0,12}",
            name in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            if let Ok(filters) = Filters::parse(&format!("{pattern}:f")) {
                let _ = filters.folder_for(&name);
            }
        }

        #[test]
        fn a_quoted_name_matches_itself_alone(name in "[^\\\\:;]{1,20}", other in "[^\\\\:;]{1,20}") {
            let pattern = format!("^\\Q{name}\\E$");
            prop_assert!(matches(&pattern, &name));
            prop_assert_eq!(matches(&pattern, &other), name == other);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in any::<String>()) {
            let _ = Filters::parse(&text);
        }
    }
}
