"""The command line: what it says, where it says it, and the exit code. One table of mistakes drives most of it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import optuna
import pytest
import typer

from attnsearch.__main__ import main
from attnsearch.blocks import registry
from attnsearch.cli import app, failures
from attnsearch.cli.init import EXAMPLE
from attnsearch.core import machine
from attnsearch.core.errors import EnvironmentFault
from attnsearch.space.space import load_space
from attnsearch.store import database
from attnsearch.tools import catalog, doctor

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "pandas", "optuna", "numpy", "sqlalchemy", "matplotlib", "rich")

# argv, words that stderr must have, exit code. Answered before anything heavy is imported.
MISTAKES = [
    ("rn", "No such command 'rn'. Did you mean 'run'?", 2),
    ("run", "Missing option '--space' (choose from: cbam_variants, ", 2),
    ("run --space cbam_variant", "Unknown space 'cbam_variant'. Did you mean 'cbam_variants'?", 2),
    ("spaces cbam", "Unknown space 'cbam'. Did you mean 'cbam_variants'?", 2),
    ("run --space ./nope.yaml", "Space file not found: nope.yaml", 2),
    ("run --space folder/", "folder is a directory, expected a YAML file", 2),
    ("run --space empty.yaml", "empty.yaml is empty", 2),
    ("run --space tab.yaml", "tab.yaml:3:1: found character '\\t'", 2),
    ("run --space tag.yaml", "unsafe tag refused", 2),
    ("run --space bomb.yaml", "too many nodes", 2),
    ("run --space big.yaml", "file too large", 2),
    ("run --space block.yaml", "Unknown block 'cbamm' in stage 2. Did you mean 'cbam'?", 2),
    ("run --space key.yaml", "Unknown key of cbam 'kernal'. Did you mean 'kernel'?", 2),
    ("run --space none.yaml", "space has 0 architectures; nothing to search", 2),
    ("run --space one.yaml", "space has 1 architecture; nothing to search", 2),
    ("run --space channel_or_spatial --data nope", "Data folder not found: nope", 3),
    ("run --space channel_or_spatial --data ~nobody/nope", "Data folder not found: ~nobody/nope", 3),
    ("report", "No study database at results/attnsearch.db; run `attnsearch run` first", 4),
    ("dashboard", "No study database at results/attnsearch.db", 4),
    ("export", "No study database at results/attnsearch.db", 4),
    ("cost resnet51", "Unknown network 'resnet51'", 2),
    ("validate", "No study database at results/attnsearch.db", 4),
    ("latency resnet51", "Unknown network 'resnet51'", 2),
    ("plan --space cbam_variant --sd 1 --effect 1", "Did you mean 'cbam_variants'?", 2),
    (
        "run --space cbam_variants --budget parms<=1x",
        "Unknown cost of a limit 'parms'. Did you mean 'params'?",
        2,
    ),
    ("run --space cbam_variants --cost latency_ms", "Unknown cost 'latency_ms'", 2),
    ("run --space cbam_variants --cost macs,macs", "none of them twice, got 'macs,macs'", 2),
    ("run --space cbam_variants --engine ray", "--engine ray needs --address HOST:PORT", 2),
    ("run --space cbam_variants --address head:1", "--address is of a Ray cluster: add --engine ray", 2),
    ("run --space cbam_variants --engine slurm", "Unknown engine 'slurm'. Known: local, ray", 2),
    ("run --space cbam_variants --seed=-1", "'--seed': must be an integer ≥ 0, got '-1'", 2),
    ("report --storage sqlite+pysqlite:///x.db", "unsupported storage scheme 'sqlite+pysqlite'", 2),
    ("report --storage sqlite://", "use sqlite:///FILE", 2),
    ("run --space cbam_variants --trials 0", "must be an integer ≥ 1, got '0'", 2),
    ("run --space cbam_variants --trials -1", "must be an integer ≥ 1, got '-1'", 2),
    ("run --space cbam_variants --trials abc", "must be an integer ≥ 1, got 'abc'", 2),
    ("run --space cbam_variants --trials 1e3", "must be an integer ≥ 1, got '1e3'", 2),
    (
        "run --space cbam_variants --image-size 100000",
        "the image size is a side in pixels from 1 to 2,048",
        2,
    ),
    ("run --space cbam_variants --epochs 0", "'--epochs': must be an integer ≥ 1", 2),
    ("run --space cbam_variants --batch-size 0", "'--batch-size': must be an integer ≥ 1", 2),
    ("run --space cbam_variants --lr nan", "must be a positive finite number, got 'nan'", 2),
    ("run --space cbam_variants --lr inf", "must be a positive finite number, got 'inf'", 2),
    ("run --space cbam_variants --lr -1", "must be a positive finite number, got '-1'", 2),
    ("run --space cbam_variants --workers 0", "must be an integer ≥ 1 or 'gpus'", 2),
    ("run --space cbam_variants --workers -2", "must be an integer ≥ 1 or 'gpus'", 2),
    ("run --space cbam_variants --cost macs,foo", "Unknown cost 'foo'", 2),
    ("run --space cbam_variants --study ../../etc/x", "study name must match [A-Za-z0-9._-]{1,100}", 2),
    ("run --space cbam_variants --study a/b", "study name must match", 2),
    ("run --space cbam_variants --study=", "study name must match", 2),
    ("run --space cbam_variants --study " + 600 * "s", "study name must match", 2),
    ("run --space cbam_variants --storage foo://x", "unsupported storage scheme 'foo'", 2),
    ("run --space cbam_variants --tirals 3", "No such option: --tirals", 2),
    ("report a/b", "study name must match", 2),
    ("report --storage foo://x", "unsupported storage scheme 'foo'", 2),
    ("spaces cbam_variant", "Did you mean 'cbam_variants'?", 2),
    ("spaces cbam_variants --budget params=3", "Cannot read the limit 'params=3'", 2),
    ("spaces cbam_variants --budget parms<=1.2x", "Did you mean 'params'?", 2),
    ("blocks cbamm", "Unknown block 'cbamm'. Did you mean 'cbam'?", 2),
    ("blocks cbam.paperr", "Block 'cbam' has no preset 'paperr'. Did you mean 'paper'?", 2),
    ("blocks --channels none", "must be an integer ≥ 1", 2),
    ("blocks --plugin nope.py", "Plug-in file not found: nope.py", 2),
    ("check nope.py", "Plug-in file not found: nope.py", 2),
    ("check plain.py", "no class here is decorated with @block('name')", 2),
    ("check broken.py", "broken.py:1: not valid Python", 2),
    ("check binary.py", "not valid Python: source code string cannot contain null bytes", 2),
    ("check named.py", "named.py:1: a block's name must be written out", 2),
    ("check nameless.py", "nameless.py:1: a block needs a name: @block('my_block')", 2),
    ("check slot.py", "slot.py:1: Unknown slot 'attentoin'. Did you mean 'attention'?", 2),
    ("check computed.py", "computed.py:3: the default of ratio must be written out", 2),
    ("cost resnet50 --image 224", "must be channels x height x width, such as 3x224x224, got '224'", 2),
    ("latency resnet8 --dtype float8", "Unknown dtype 'float8'. Did you mean 'float32'?", 2),
    ("init space.txt", "a space file ends in .yaml", 2),
    ("init empty.yaml", "empty.yaml exists and is left as it is", 2),
    ("dashboard --host 0.0.0.0", "--host 0.0.0.0 would show your studies to the network", 2),
    ("dashboard --port 70000", "port out of range: 70000", 2),
    ("export --format pdf", "Unknown format 'pdf'", 2),
]

FILES = {
    "empty.yaml": "",
    "tab.yaml": "host: resnet8\nstages:\n\tattention: se\n",
    "tag.yaml": "host: !!python/object/apply:os.system ['touch executed']\n",
    "bomb.yaml": "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + "\n".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]" for a, b in zip("abcdef", "bcdefg", strict=True)),
    "big.yaml": "question: " + "x" * 1_100_000,
    "block.yaml": "host: resnet8\nstages:\n  - attention: [none, se]\n  - attention: cbamm\n  - attention: se\n",
    "key.yaml": "host: resnet8\nstages:\n  attention: [none, {block: cbam, kernal: 3}]\n",
    "none.yaml": "host: resnet8\nstages: []\n",
    "one.yaml": "host: resnet8\nstages: {attention: se}\n",
    "plain.py": "x = 1\n",
    "broken.py": "class :\n",
    "binary.py": "\0",
    "named.py": "@block(NAME)\nclass Gate: ...\n",
    "nameless.py": "@block()\nclass Gate: ...\n",
    "slot.py": "@block('gate', slot='attentoin')\nclass Gate: ...\n",
    "computed.py": "@block('gate')\nclass Gate:\n    def __init__(self, channels, *, ratio: int = 2 * N): ...\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the files of the mistakes, and no wish for ASCII."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "folder").mkdir()
    for name in ("LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def say(folder, capsys):
    """Run a command line: exit code, stdout, stderr."""

    def run(line):
        code = main(line.split())
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.mark.parametrize(("line", "words", "code"), MISTAKES, ids=[line[:60] for line, _, _ in MISTAKES])
def test_a_mistake_is_told_in_its_words_and_code(say, folder, line, words, code):
    before = sorted(folder.rglob("*"))
    got, out, err = say(line)
    assert words in err
    assert err.startswith("error: ")
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    assert sorted(folder.rglob("*")) == before, "nothing is half-written"


def test_help_and_mistakes_import_nothing_heavy(folder):
    lines = ["", "--help", "run --help", "report --help", "--version", *(line for line, _, _ in MISTAKES)]
    code = (
        "import json, sys; from attnsearch.__main__ import main; lines = json.load(sys.stdin);"
        "codes = [main(line.split()) for line in lines];"
        f"print('RESULT', json.dumps([codes, sorted(set(sys.modules) & set({HEAVY!r}))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(lines), capture_output=True, text=True, env=_env()
    )
    codes, heavy = json.loads(done.stdout.split("RESULT ")[1])
    assert heavy == []
    assert codes == [0, 0, 0, 0, 0, *(code for _, _, code in MISTAKES)]


@pytest.mark.parametrize(
    ("line", "words", "code"),
    [
        ("latency resnet8 --device tpu", "Unknown device 'tpu'. Use cpu, cuda or cuda:1.", 4),
        ("run --space channel_or_spatial --out empty.yaml/x", "cannot create results directory", 4),
    ],
)
def test_a_mistake_that_takes_longer_to_see(say, folder, line, words, code):
    got, out, err = say(line)
    assert words in err
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    assert not (folder / "typo.db").exists()


def test_cuda_where_there_is_none(say):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    code, _, err = say("run --space channel_or_spatial --device cuda")
    assert code == 4
    assert f"CUDA not available (torch {torch.__version__}); use --device cpu or install" in err


def test_alone_it_helps(say):
    code, out, _ = say("")
    assert code == 0
    assert out == say("--help")[1]
    assert "attnsearch run --space cbam_variants" in out
    listed = out[out.index("Commands:") :].splitlines()[1:]
    assert {line.split()[0] for line in listed} == set(typer.main.get_command(app).commands)
    assert not [line for line in listed if line.endswith("...")], "the first sentence fits"


def test_debug_stands_anywhere_and_shows_the_traceback(say):
    for line in ("--debug spaces nope", "spaces nope --debug"):
        code, _, err = say(line)
        assert code == 2
        assert "Traceback" in err
        assert "error: Unknown space 'nope'" in err


def test_hostile_yaml_runs_nothing(say, folder):
    say("run --space tag.yaml")
    assert not (folder / "executed").exists()


def test_a_bug_leaves_a_trace_without_passwords(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["attnsearch", "run", "--storage", "postgresql://u:SECRET@h/db"])

    def crash():
        raise ValueError("odd thing at postgresql://u:SE@CRET@h/db?password=SECRET")

    assert failures.fail_cleanly(crash, debug=False) == 1
    err = capsys.readouterr().err
    assert "please report" in err
    assert "Traceback" not in err
    log = Path(re.search(r"report it with (.+\.log)", err)[1])
    trace = log.read_text(encoding="utf-8")
    log.unlink()
    assert "ValueError" in trace
    assert "in crash" in trace
    assert "postgresql://u:***@h/db" in trace
    assert "SECRET" not in err + trace
    assert "CRET" not in err + trace


@pytest.mark.parametrize("line", ["report", "dashboard", "doctor", "run --space channel_or_spatial"])
def test_a_password_is_never_shown(say, folder, line):
    code, out, err = say(f"{line} --storage postgresql://u:SECRET@127.0.0.1:1/db")
    assert code == 4
    assert "ATTNSEARCH_STORAGE" in err, "`ps` shows what the command line has"
    assert "cannot connect to postgresql://u:***@127.0.0.1:1/db" in out + err
    assert "SECRET" not in out + err
    assert not any("SECRET" in file.read_text() for file in folder.rglob("*.log"))


def test_interrupted_is_130(capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert failures.fail_cleanly(interrupt, debug=False) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_full_disk_is_the_environments_fault(capsys):
    def fill():
        raise OSError(28, "No space left on device", "results/trials.csv")

    assert failures.fail_cleanly(fill, debug=False) == 4
    assert capsys.readouterr().err == "error: No space left on results/trials.csv\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe_is_no_error(folder, stream):
    line = ["run", "--help"] if stream == "stdout" else ["rn"]
    with subprocess.Popen(
        [sys.executable, "-m", "attnsearch", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_env(),
    ) as process:
        getattr(process, stream).close()
        other = process.stderr if stream == "stdout" else process.stdout
        told = other.read()
        code = process.wait()
    assert told == b""
    assert code == (0 if stream == "stdout" else 2)


def test_a_poor_terminal_gets_ascii_without_colour_in_its_width(folder):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    poor = {"LC_ALL": "C", "TERM": "dumb", "NO_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    for line in (["init", "mine.yaml"], ["run", "--trials", "0"]):
        done = subprocess.run(
            [sys.executable, "-m", "attnsearch", *line], stdout=terminal, stderr=terminal, env=_env() | poor
        )
        assert done.returncode in (0, 2)
    os.close(terminal)
    told = os.read(controller, 10_000).decode("ascii")
    os.close(controller)
    assert "\x1b" not in told
    assert "must be an integer >= 1" in told
    written = told[: told.index("error:")]
    assert "attnsearch run --space mine.yaml" in written
    assert all(len(row) <= 40 for row in written.splitlines())


def test_tables_in_the_c_locale_are_ascii(say, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    code, out, _ = say("spaces channel_or_spatial")
    assert code == 0
    assert out.isascii()
    assert "3x20x20" in out
    assert "\x1b" not in out


def test_spaces_lists_every_question(say):
    code, out, _ = say("spaces --json")
    rows = json.loads(out)
    assert code == 0
    assert {row["space"]: row["archs"] for row in rows}["channel_or_spatial"] == 4**3
    assert all(row["question"].endswith("?") for row in rows)


def test_a_space_is_counted_and_costed(say):
    _, out, _ = say("spaces channel_or_spatial --budget params<=1.0x --json")
    facts = json.loads(out)
    # The plain host alone has no more parameters than itself.
    assert facts["budget"] | {"limits": {}} == {
        "limits": {},
        "share": 1 / 64,
        "archs": 1,
        "of": 64,
        "exact": True,
        "looked_at": 64,
    }
    params = facts["costs"]["params"]
    assert params["least"] == params["baseline"]
    # CBAM at C channels, ratio 16: 2Ch + h + C + 100 with h = C / 16; widths 16, 32, 64, one unit each.
    cbam = sum(2 * c * (c // 16) + c // 16 + c + 100 for c in (16, 32, 64))
    assert params["greatest"] - params["baseline"] == cbam


@pytest.mark.parametrize(
    ("name", "source", "faithful"),
    [
        ("cbam", "Woo et al. 2018", "differs"),
        ("cbam_lite", "Woo et al. 2018", "differs"),
        ("se", "Hu et al. 2018", "yes"),
        ("splat", "Zhang et al. 2022", "yes"),
        ("shuffle", "Zhang and Yang 2021", "differs"),
        ("nonlocal", "Wang et al. 2018", "differs"),
    ],
)
def test_a_block_says_where_it_comes_from(name, source, faithful):
    facts = registry.info(name)
    assert (catalog.source(facts), catalog.faithful(facts)) == (source, faithful)


def test_every_shipped_block_says_source_and_fidelity():
    for facts in registry.blocks().values():
        assert re.fullmatch(r"\w+ (et al\.|and \w+) \d{4}", catalog.source(facts)), facts.name
        assert catalog.faithful(facts) in ("yes", "differs"), facts.name


def test_blocks_show_costs_and_constraints(say):
    code, out, _ = say("blocks psa --json")
    facts = json.loads(out)
    assert code == 0
    assert {"psa.official", "psa.paper"} <= {row["preset"] for row in facts["presets"]}
    assert [row["map"] for row in facts["costs"]] == ["64×56×56", "128×28×28", "256×14×14", "512×7×7"]
    assert any(6 in refused["channels"] for refused in facts["refused"]), "6 is no multiple of 4 branches"
    assert "softmax" in say("blocks psa")[1]


def test_cost_is_the_published_one(say):
    code, out, _ = say("cost resnet50 --json")
    counted = json.loads(out)
    assert code == 0
    assert counted["params"] == 25_557_032  # torchvision's model table
    assert counted["macs"] == 4_089_184_256  # its 4.09 G
    assert counted["image"] == [3, 224, 224]
    assert "1 multiply-add is 1 MAC" in counted["conventions"]["macs"]


def test_latency_says_what_it_holds_for(say):
    code, out, _ = say("latency resnet8 --repeats 3 --batch 2 --json")
    found = json.loads(out)
    assert code == 0
    assert (found["n"], found["batch"], found["dtype"], found["image"]) == (3, 2, "float32", [3, 32, 32])
    assert 0 < found["q25_ms"] <= found["median_ms"] <= found["q75_ms"]


def test_init_writes_a_space_that_loads(say, folder):
    code, _, _ = say("init mine.yaml")
    assert code == 0
    space = load_space(folder / "mine.yaml")
    assert space.size() == 11**3  # none; eca, two of se, two of cbam, each in all units or the last
    assert space.on("cued-digits").size() == 6**3, "one unit a stage: all units or the last is the same"


@pytest.mark.parametrize(
    "line",
    [line for line in EXAMPLE.splitlines() if re.match(r"\s*# \w+: ", line)],
    ids=lambda line: line[:30],
)
def test_what_the_example_comments_out_is_valid_too(folder, line):
    key = re.match(r"\s*# (\w+):", line)[1]
    kept = [row for row in EXAMPLE.splitlines() if row.split(":")[0] != key]
    text = "\n".join(row.replace("# ", "", 1) if row == line else row for row in kept)
    (folder / "mine.yaml").write_text(text.format(file="mine.yaml"), encoding="utf-8")
    assert load_space(folder / "mine.yaml").size() > 1


BLOCK = """
from torch import nn
from attnsearch.blocks.registry import block

@block("mine")
class Mine(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        raise ValueError("not today")
"""


def test_check_fails_with_the_reason(say, folder, monkeypatch):
    monkeypatch.setattr(registry, "_PLUGINS", {})
    (folder / "mine.py").write_text(BLOCK, encoding="utf-8")
    code, out, _ = say("check mine.py")
    assert code == 2
    assert "1 of 1 properties FAILED" in out
    assert "FAILED   builds: ValueError: not today" in out


def test_check_passes_a_shipped_block(say):
    code, out, _ = say("check simam --json --channels 8")
    findings = json.loads(out)["simam"]
    assert code == 0
    assert len(findings) > 10
    assert all(finding["passed"] is not False for finding in findings)


def test_doctor_finds_what_would_stop_a_run(folder):
    signs = {sign.name: sign for sign in doctor.examine(folder / "results")}
    assert signs["results"].state == "ok"
    assert signs["torch"].found[0].isdigit()
    assert "trains in" in signs["cpu"].found
    assert signs["studies"].found.startswith("none yet")
    assert {sign.state for sign in doctor.examine(Path("/proc/x")) if sign.name == "results"} == {"bad"}


@pytest.mark.parametrize(
    ("said", "most"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 64), (None, 64)],
)
def test_a_container_uses_the_cores_it_is_given(tmp_path, monkeypatch, said, most):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    if said is not None:
        (tmp_path / "cpu.max").write_text(f"{said}\n")
    assert machine.cores(tmp_path / "cpu.max") == most


def test_who_has_no_home_is_told_to_choose_a_cache(folder, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)
    signs = {sign.name: sign for sign in doctor.examine(folder / "results")}
    assert signs["cache"].state == "bad"
    assert "set ATTNSEARCH_CACHE" in signs["cache"].found


def test_a_network_file_system_is_known_and_refused(tmp_path, monkeypatch):
    mounts, spaced = tmp_path / "mounts", tmp_path / "my data"
    escaped = str(spaced).replace(" ", "\\040")  # as the kernel writes it
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {escaped} nfs4 rw 0 0\n", encoding="utf-8")
    assert database.file_system(spaced / "results", mounts) == "nfs4"
    assert database.file_system(tmp_path / "my data2", mounts) == "ext4"
    monkeypatch.setattr(database, "file_system", lambda folder: "nfs4")
    with pytest.raises(EnvironmentFault, match=r"network file system \(nfs4\)"):
        database.open_storage(f"sqlite:///{tmp_path / 'studies.db'}", create=True)
    signs = {sign.name: sign for sign in doctor.examine(tmp_path)}
    assert signs["results"].state == "bad"
    assert "nfs4" in signs["results"].found


def test_doctor_finds_trials_that_nobody_runs(folder):
    url = f"sqlite:///{folder / 'studies.db'}"
    study = optuna.create_study(study_name="left", storage=url)
    study.set_user_attr("fingerprint", "of a space")  # as a study of ours has
    study.ask()
    with open(folder / "studies.db.left.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "study left" not in {sign.name for sign in doctor.examine(folder, url)}, "somebody runs it"
    signs = {sign.name: sign for sign in doctor.examine(folder, url)}
    assert signs["study left"].found == "1 RUNNING and nobody runs it"


def _env():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_every_option_that_a_message_names_is_there():
    """Advice that the command line then refuses is worse than none."""
    groups = typer.main.get_command(app).commands.values()
    commands = [*groups, *(inner for group in groups for inner in getattr(group, "commands", {}).values())]
    params = [param for command in commands for param in command.params]
    known = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    known |= {"--help", "--debug", "--version"}
    known |= {"--head", "--generate", "--object-store-memory"}  # of Ray's commands
    texts = [path.read_text() for path in (*ROOT.glob("attnsearch/**/*.py"), ROOT / "README.md")]
    named = {word for text in texts for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    assert len(named) > 30
    assert named <= known


def test_the_help_of_run_has_every_option_in_one_group_the_common_ones_first(say):
    from inspect import signature

    from attnsearch.cli.run import GROUPS, OTHERS, run

    assert set(signature(run).parameters) == set(GROUPS)
    out = say("run --help")[1]
    assert OTHERS not in out
    heads = [line.rstrip(":") for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads[:2] == ["First of all", "What to train"]
    assert set(heads) == {*GROUPS.values(), "Help"}
    first = out[out.index("First of all") : out.index("What to train")]
    listed = [line.split()[0] for line in first.splitlines() if line.startswith("  --")]
    assert listed == ["--space", "--data", "--trials", "--epochs", "--workers"]
