"""The Dockerfile makes the images that the chart asks for, with a program in each and nothing else."""

import json
import re
from types import SimpleNamespace

import pytest
import yaml
from conftest import IMAGES, PROJECT, SERVICES, unknown

LABELS = {"title", "description", "version", "revision", "source", "vendor", "licenses"}


def stages():
    """Each stage's instructions, those of the stage that it is from first."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (PROJECT / "Dockerfile").read_text())
    found, current = {}, []
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            origin, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            assert origin == "scratch" or origin in found, f"{name}: from {origin}"
            current = found[name] = list(found.get(origin, []))
        elif word:
            current.append((word, rest.strip()))
    return found


def image(name):
    given = stages()[name]
    words = " ".join(rest for word, rest in given if word == "ENV").split()
    return SimpleNamespace(
        given=given,
        copied=[rest.split() for word, rest in given if word == "COPY"],
        environment=dict(word.split("=", 1) for word in words),
        of=lambda *wanted: [rest for word, rest in given if word in wanted],
    )


def test_there_are_the_images_that_the_chart_asks_for():
    values = yaml.safe_load((PROJECT / "charts" / "tentacle" / "values.yaml").read_text())
    asked = {part["image"]["repository"] for part in values.values() if isinstance(part, dict) and "repository" in part.get("image", {})}
    assert asked == IMAGES == set(stages()) - {"base"}


def test_the_script_builds_all_of_them():
    script = (PROJECT / "deploy" / "images.sh").read_text()
    assert set(re.search(r"^images=\((.*)\)", script, re.MULTILINE)[1].split()) == IMAGES
    for name in IMAGES:
        assert [source for line in image(name).copied for source in line if "$TARGETARCH" in source] == [f"dist/$TARGETARCH/{name}"]


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_an_image_holds_finished_programs_and_no_shell(name):
    assert not image(name).of("RUN", "ADD", "SHELL", "HEALTHCHECK", "ONBUILD")
    for line in image(name).copied:
        *sources, target = [word for word in line if not word.startswith("--")]
        assert set(sources) <= {"dist/empty", f"dist/$TARGETARCH/{name}"}, line
        assert target == "/" or target in {f"/{name}", "/tmp", "/var/spool/tentacle"}, line
    for started in image(name).of("ENTRYPOINT", "CMD"):
        # The other form asks for a shell.
        assert isinstance(json.loads(started), list)


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_an_image_runs_as_nobody_in_particular_and_says_what_it_is(name):
    assert image(name).of("USER") == ["65532:65532"]
    owned = [line for line in image(name).copied if "dist/empty" in line]
    assert all("--chown=65532:65532" in line for line in owned)
    labels = " ".join(image(name).of("LABEL"))
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)) == LABELS
    assert f"image.title={name} " in labels


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_its_images_entrypoint_and_answers_probes(name):
    assert [json.loads(started) for started in image(name).of("ENTRYPOINT")] == [[f"/{name}"]]
    assert image(name).environment["TENTACLE_HTTP_ADDR"] == "0.0.0.0:8080"
    ports = {"8080"} if name == "tentacle-sync-puller" else {"41121", "8080"}
    assert set(" ".join(image(name).of("EXPOSE")).split()) == ports
    assert not unknown(name, set(image(name).environment) - {"PATH"})


def test_a_receiver_has_its_spool_where_the_chart_has_it():
    folder = image("tentacle-receiver").environment["TENTACLE_DIRECTORY"]
    assert image("tentacle-receiver").of("VOLUME") == [folder]
    helper = PROJECT / "charts" / "tentacle" / "templates" / "receiver" / "_receiver.tpl"
    assert f'(list "directory" "{folder}")' in helper.read_text()


def test_a_builder_is_sent_the_finished_programs_alone():
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["*", "!dist"]
