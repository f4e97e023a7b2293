//! A configuration file is refused, or says the same when its lines are
//! written anew.

use runtime::options::FileFormat;

use super::said::{check, read};

pub fn run(input: &[u8]) {
    let anew = read("-F", &written_anew(input));
    match read("-F", input) {
        Ok(options) => {
            check(&options);
            let anew = anew.map(|anew| format!("{:?} {:?}", anew.sources, anew.destination));
            assert_eq!(anew, Ok(format!("{:?} {:?}", options.sources, options.destination)));
        }
        Err(why) => assert!(anew.is_err(), "written anew it is taken, and here {why}"),
    }
}

/// In capitals, and without comments and what is left out for other reasons.
fn written_anew(file: &[u8]) -> Vec<u8> {
    let lines = FileFormat::PandoraServer.lines(file).into_iter();
    let lines = lines.map(|line| {
        let token = line.token.to_ascii_uppercase();
        [b"\t", token.as_bytes(), b"  ", line.value.as_encoded_bytes(), b"\r\n"].concat()
    });
    lines.collect::<Vec<_>>().concat()
}
