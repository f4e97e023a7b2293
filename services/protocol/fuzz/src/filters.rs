//! Filters are refused, or put each name into one of their folders, all of
//! which are below the spool.

use protocol::Filters;

/// The first line is the filters, each other one a name.
pub fn run(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n');
    let text = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let filters = match Filters::parse(&text) {
        Ok(filters) => filters,
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?} is more than a line");
            return;
        }
    };
    let folders: Vec<_> = filters.folders().collect();
    for folder in &folders {
        let parts_are_plain = folder.split('/').all(|part| !matches!(part, "" | "." | ".."));
        assert!(parts_are_plain && !folder.contains('\0'), "{folder:?} is no folder below the spool");
    }
    for name in lines.map(|name| &name[..name.len().min(protocol::MAX_NAME)]).take(8) {
        let folder = filters.folder_for(name);
        assert_eq!(folder, filters.folder_for(name), "{name:?} has two folders");
        if let Ok(folder) = folder {
            assert!(folder.is_empty() || folders.contains(&folder), "{folder:?} is none of the filters'");
        }
    }
}
