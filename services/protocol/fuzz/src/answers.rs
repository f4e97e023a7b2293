//! Whatever a server says, and in whatever pieces: a client gets answers that
//! fit what it asked, or an error, and holds no more than it asked for.

use protocol::{Client, ClientError, FileName, Form, NameRules, PasswordDigest, Verb};

use super::pieces::{Cuts, Pieces, block_on, deadline};

/// The first line is what the client asks, a letter each; the rest is what
/// the server says.
pub fn run(input: &[u8]) {
    let (asked, said) = match input.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &b""[..]),
    };
    let asked = &asked[..asked.len().min(64)];
    let whole = block_on(session(asked, said, Cuts::Whole));
    for cuts in Cuts::of(input) {
        assert_eq!(block_on(session(asked, said, cuts)), whole, "{cuts:?}");
    }
}

/// What came of each question.
async fn session(asked: &[u8], said: &[u8], cuts: Cuts) -> Vec<String> {
    let mut client = Client::new(Pieces::new(said, cuts), deadline());
    let name = NameRules::default().check(b"a.data").expect("no byte of it is refused");
    let mut results = Vec::new();
    for &question in asked {
        let result = ask(&mut client, question, &name).await;
        let is_over = matches!(&result, Err(error) if !matches!(error, ClientError::Refused(_)));
        results.push(match result {
            Ok(answer) => answer,
            Err(error) => error.to_string(),
        });
        if is_over {
            return results;
        }
    }
    results
}

async fn ask(client: &mut Client<Pieces<'_>>, question: u8, name: &FileName) -> Result<String, ClientError> {
    match question {
        b'p' => {
            let digest = PasswordDigest::of(b"secret");
            let answer = client.authenticate(&digest).await;
            if let Err(error) = &answer {
                let hex = digest.to_hex();
                let shown = error.to_string();
                assert!(
                    !shown.as_bytes().windows(hex.len()).any(|text| text == hex),
                    "{shown} shows the digest"
                );
            }
            answer.map(|()| String::new())
        }
        b'f' => client.features().await.map(|features| format!("{features:?}")),
        b'l' => {
            let names = client.list(b"x.conf", MAX_LIST).await?;
            assert!(names.iter().map(|name| name.len() as u64 + 1).sum::<u64>() <= MAX_LIST + 1);
            for name in &names {
                assert!(
                    !matches!(&name[..], b"" | b"." | b"..") && !name.contains(&b'\n'),
                    "{name:?} is listed"
                );
            }
            Ok(format!("{names:?}"))
        }
        b's' => client.send(name, 3, Form::Plain, &mut &b"abc"[..]).await.map(|()| String::new()),
        b'r' => {
            let size = client.receive(name, Form::Plain).await?;
            body(client, Verb::Recv, size).await
        }
        b'd' => {
            let size = client.take(name).await?;
            client.decline(Verb::Mv).await.map(|()| format!("{size} bytes, declined"))
        }
        _ => {
            let size = client.take(name).await?;
            body(client, Verb::Mv, size).await
        }
    }
}

async fn body(client: &mut Client<Pieces<'_>>, verb: Verb, size: u64) -> Result<String, ClientError> {
    client.accept(verb, size).await?;
    let mut piece = Vec::with_capacity(100);
    let mut body = Vec::new();
    while client.read_body(&mut piece).await? > 0 {
        body.append(&mut piece);
        piece.reserve(100);
    }
    assert_eq!(body.len() as u64, size);
    Ok(format!("{body:?}"))
}

const MAX_LIST: u64 = 5000;
