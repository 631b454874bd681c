import pytest

from metta_cli.artifacts.uris import Uri, parse_uri
from metta_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("walker", Uri("file", "walker")),
        ("walker:v12", Uri("file", "walker", "v12")),
        ("walker:latest", Uri("file", "walker", "latest")),
        ("train_dir/walker/", Uri("file", "train_dir/walker")),
        ("a/checkpoints/walker:v3", Uri("file", "a/checkpoints/walker", "v3")),
        ("/absolute/model.pt", Uri("file", "/absolute/model.pt")),
        ("file:///absolute/walker:v1", Uri("file", "/absolute/walker", "v1")),
        ("file://relative/walker", Uri("file", "relative/walker")),
        ("FILE://walker", Uri("file", "walker")),
        ("wandb://metta/team/model/run:latest", Uri("wandb", "metta/team/model/run", "latest")),
        ("wandb://run/name:best", Uri("wandb", "run/name:best")),
        ("s3://bucket/a:v1/x.pt", Uri("s3", "bucket/a:v1/x.pt")),
        ("walker:v", Uri("file", "walker:v")),
        ("walker:V1", Uri("file", "walker:V1")),
        ("a:v1:v2", Uri("file", "a:v1", "v2")),
        ("/", Uri("file", "/")),
        (":v1", Uri("file", ":v1")),
        ("~/runs/walker", Uri("file", "~/runs/walker")),
    ],
)
def test_an_address_is_taken_apart(text: str, uri: Uri) -> None:
    assert parse_uri(text) == uri


@pytest.mark.parametrize("text", ["", "file://", "s3://", "a\0b"])
def test_an_address_without_a_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not the address of a checkpoint"):
        parse_uri(text)


@pytest.mark.parametrize(("text", "epoch"), [("a:v007", 7), ("a:latest", None), ("a", None)])
def test_the_version_gives_the_epoch(text: str, epoch: int | None) -> None:
    assert parse_uri(text).epoch == epoch


@pytest.mark.parametrize("text", ["file://a/b:v2", "s3:///x", "wandb://run/name:latest"])
def test_the_full_form_reads_back_as_itself(text: str) -> None:
    assert str(parse_uri(text)) == text
