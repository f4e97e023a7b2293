//! The commands of a page, and what it shows that they print.

/// The sections that have commands, in the page's order.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) sections: Vec<Section>,
}

/// What stands under one heading.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) blocks: Vec<Block>,
}

/// Commands of the shell.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) commands: String,
    /// What they print, where the page shows it.
    pub(crate) shown: Option<String>,
}

// === impl Page ===

impl Page {
    /// Reads Markdown: blocks of `sh` are commands, and a block of `text` is
    /// what the commands before it print.
    ///
    /// # Errors
    /// A section has commands and shows nothing that they do, or a block has
    /// no place in it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut sections = vec![Section { title: String::new(), blocks: Vec::new() }];
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let inside = lines.by_ref().take_while(|line| *line != "```");
                let content: String = inside.map(|line| format!("{line}\n")).collect();
                if let Some(section) = sections.last_mut() {
                    section.take(language, content).map_err(|why| format!("{}: {why}", section.title))?;
                }
            } else if let Some(title) = line.strip_prefix('#') {
                let title = title.trim_start_matches('#').trim().to_owned();
                sections.push(Section { title, blocks: Vec::new() });
            }
        }
        sections.retain(|section| !section.blocks.is_empty());
        match sections.iter().find(|section| section.blocks.iter().all(|block| block.shown.is_none())) {
            Some(section) => Err(format!("{}: has commands, and shows nothing that they do", section.title)),
            None => Ok(Self { sections }),
        }
    }
}

// === impl Section ===

impl Section {
    fn take(&mut self, language: &str, content: String) -> Result<(), String> {
        match (language, self.blocks.last_mut()) {
            ("sh", _) => self.blocks.push(Block { commands: content, shown: None }),
            ("text", _) if content.trim().is_empty() => return Err("an empty block of text".to_owned()),
            ("text", Some(block)) if block.shown.is_none() => block.shown = Some(content),
            _ => return Err(format!("a block of {language:?} that belongs to no commands:\n{content}")),
        }
        Ok(())
    }
}

// === impl Block ===

impl Block {
    /// Whether the page shows what was printed.
    pub(crate) fn agrees(&self, printed: &str) -> bool {
        let lines = |text: &str| text.lines().map(ToOwned::to_owned).collect::<Vec<_>>();
        self.shown.as_deref().is_none_or(|shown| all_agree(&lines(shown), &lines(printed)))
    }
}

/// Line by line; a line that is nothing but `…` stands for any lines.
fn all_agree(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == ANYTHING => {
            (0..=printed.len()).any(|skipped| all_agree(rest, &printed[skipped..]))
        }
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, others)| agrees(first, line) && all_agree(rest, others))
        }
    }
}

/// In a line, `…` stands for any text.
fn agrees(shown: &str, printed: &str) -> bool {
    let Some((before, behind)) = shown.split_once(ANYTHING) else { return shown == printed };
    let Some(rest) = printed.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| agrees(behind, &rest[at..]))
}

const ANYTHING: &str = "…";

#[test]
fn a_section_without_a_checked_outcome_is_refused() {
    let error = Page::read("# A page\n## Careless\n```sh\ntrue\n```\n").unwrap_err();
    assert_eq!(error, "Careless: has commands, and shows nothing that they do");
    assert!(Page::read("## Empty\n```sh\ntrue\n```\n```text\n```\n").is_err());
    assert!(Page::read("## Lone\n```text\nhello\n```\n").is_err());
}

#[test]
fn a_block_of_another_language_would_not_be_run_and_is_refused() {
    assert!(Page::read("## Unrun\n```yaml\na: b\n```\n").is_err());
}

#[test]
fn what_is_printed_must_be_what_is_shown() {
    let page = Page::read("## A\n```sh\nb\n```\nIt says:\n```text\none … three\n…\nlast\n```\n").unwrap();
    let block = &page.sections[0].blocks[0];
    assert_eq!(block.commands, "b\n");
    assert!(block.agrees("one two three\nlast\n"));
    assert!(block.agrees("one 2 three\nmore\nand more\nlast\n"));
    for wrong in
        ["", "one two three\n", "one two\nlast\n", "one two three\nlast\nmore\n", "0\none two three\nlast\n"]
    {
        assert!(!block.agrees(wrong), "{wrong:?}");
    }
}
