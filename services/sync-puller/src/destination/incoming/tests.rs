//! Several pullers on one incoming folder.

use tempfile::TempDir;

use super::*;

fn pullers() -> (TempDir, Incoming, Incoming) {
    let folder = TempDir::new().unwrap();
    let open = || Incoming::open(folder.path(), false, Stagers::Several).unwrap();
    let (one, other) = (open(), open());
    (folder, one, other)
}

fn take(incoming: &Incoming) -> Intake {
    let source = "ship7".parse().unwrap();
    incoming.take_over(&source, Home::Only, &[String::new()]).unwrap().remove(0)
}

fn name(name: &str) -> EntryName {
    EntryName::new(name.as_bytes()).unwrap()
}

async fn stage(intake: &Intake, file: &str) -> Result<(), DestinationError> {
    let digest = Sha256::digest(file).into();
    intake.stage(intake.draft(), file.as_bytes().to_vec(), &digest, &name(file)).await
}

#[tokio::test]
async fn who_lost_a_source_can_neither_stage_nor_publish() {
    let (folder, one, other) = pullers();
    let lost = take(&one);
    stage(&lost, "a.data").await.unwrap();
    let taken = take(&other);
    assert_eq!(taken.staged().await.unwrap(), [name("a.data")], "it is settled by who has it now");
    assert!(stage(&lost, "b.data").await.is_err());
    assert!(lost.publish(&name("a.data")).await.is_err());
    assert!(lost.staged().await.is_err());
    taken.publish(&name("a.data")).await.unwrap();
    stage(&taken, "b.data").await.unwrap();
    assert!(folder.path().join("a.data").exists() && !folder.path().join("b.data").exists());
    // It may come back to the first one.
    assert_eq!(take(&one).staged().await.unwrap(), [name("b.data")]);
    assert_eq!(one.homes(&"ship7".parse().unwrap()).unwrap(), [Home::Only].into());
}

#[tokio::test]
async fn what_two_have_staged_comes_together() {
    let (folder, one, _) = pullers();
    for (holder, file, content) in [("1", "a", "a"), ("2", "a", "other"), ("2", "b", "b")] {
        let held = folder.path().join(format!(".tentacle~sync/ship7%3A41121/buffer~{holder}/files"));
        std::fs::create_dir_all(&held).unwrap();
        std::fs::write(held.join(file), content).unwrap();
    }
    let mut staged = take(&one).staged().await.unwrap();
    staged.sort();
    assert_eq!(staged, [name("a"), name("b")]);
    let left = || one.staged_for("ship7%3A41121").unwrap().count();
    assert_eq!(left(), 2, "what has no place beside the other stays");
}
