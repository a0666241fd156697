"""Every line of the page on migrating holds: what it says to write runs, and does what the line says.

Each line of the page's tables has a check below, found by the line's section and its first cell; a line without one
fails. Code runs as it stands there, except that the addresses lead to stand-ins for the servers.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import re
import shlex
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import close_session
from langchain_core.exceptions import ContextOverflowError
from langchain_core.prompts import PromptTemplate
from langchain_huggingface import HuggingFaceEndpoint
from typer.testing import CliRunner

import langchain_stormtrooper
from langchain_stormtrooper import ConfigurationError, OpenAICompletions, TextGenerationInference, cli
from langchain_stormtrooper.llms import foreign_clients
from langchain_stormtrooper.testing import OpenAIServer, ScriptedEngine, TGIServer, when_contains

PAGE = Path(__file__).parent.parent.parent / "cookbook" / "migrating.md"
HEADER = "| what you had | what you write here | note |"
TGI, OPENAI = "http://127.0.0.1:8080", "http://127.0.0.1:8000"
LABELS = ["politics", "science", "other"]
POLITICS, SCIENCE = "The senate votes.", "Atoms have a nucleus."
EVEN = {" politics": 0.3, " science": 0.3, " other": 0.3}
RULES = {
    "senate": {" politics": 0.8, " science": 0.1, " other": 0.05},
    "nucleus": {" science": 0.8, " politics": 0.1, " other": 0.05},
}
ENGINE = ScriptedEngine(when_contains(RULES, default=EVEN))
# Of what is sampled, only what is certain is the same each time.
CERTAIN = ScriptedEngine(lambda _: " politics")


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        section: The heading above it.
        had: What one had; code, or words in the original's place.
        here: The code to write.
    """

    section: str
    had: str
    here: str


def read_lines(page: str) -> list[Line]:
    """The lines of all tables; what is written between backquotes is code and stands alone in its cell."""
    found = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        rows = [row for row in section.splitlines() if row.startswith("|")]
        assert rows[0] == HEADER
        for row in rows[2:]:
            had, here, _ = (cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1])
            assert re.fullmatch("`[^`]+`", here), row
            found.append(Line(section.splitlines()[0].split()[1], had.removeprefix("`").removesuffix("`"), here[1:-1]))
    return found


LINES = read_lines(PAGE.read_text(encoding="utf-8"))


@dataclass
class Stage:
    """The servers' stand-ins, and the names that the page's code uses.

    Attributes:
        tgi: The server at port 8080.
        openai: The server at port 8000.
        tgi_server: Starts another TGI server.
        openai_server: Starts another OpenAI-compatible server.
        monkeypatch: Sets variables of the environment.
        names: The names.
        ran: Code that was run.
        clients: Clients to close.
    """

    tgi: TGIServer
    openai: OpenAIServer
    tgi_server: Callable[..., TGIServer]
    openai_server: Callable[..., OpenAIServer]
    monkeypatch: pytest.MonkeyPatch
    names: dict[str, Any] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    clients: list[Any] = field(default_factory=list)

    def endpoint(self, **settings: Any) -> Any:
        """A `HuggingFaceEndpoint`, whose connections are closed after the test."""
        made = HuggingFaceEndpoint(**settings)
        self.clients.append(made.client)
        return made

    def bind(self, code: str) -> str:
        """The code with the stand-ins' addresses."""
        self.ran.add(code)
        return code.replace(TGI, self.tgi.url).replace(OPENAI, self.openai.url)

    def serve(self, **servers: Any) -> None:
        """Put other servers at the addresses."""
        vars(self).update(servers)
        self.monkeypatch.setenv("TGI_BASE_URL", self.tgi.url)
        self.monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", self.openai.url)

    async def run(self, code: str) -> Any:
        """The value of an expression, or what a statement defines last."""
        (node,) = ast.parse(self.bind(code)).body
        is_value = isinstance(node, ast.Expr)
        unit = ast.Expression(node.value) if isinstance(node, ast.Expr) else ast.Module([node], [])
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        value = eval(compile(unit, str(PAGE), "eval" if is_value else "exec", flags=flags), self.names)  # noqa: S307  # ours
        return await value if inspect.iscoroutine(value) else value

    def shell(self, command: str) -> str:
        """What a command of ours writes to standard output."""
        program, *arguments = shlex.split(self.bind(command))
        assert program == "langchain-stormtrooper"
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def options(self, command: str) -> dict[str, int]:
        """Options of a server with their numbers, as the stand-ins call them."""
        self.ran.add(command)
        words = shlex.split(command)
        return {name[2:].replace("-", "_"): int(value) for name, value in zip(words[::2], words[1::2], strict=True)}

    def variable(self, setting: str) -> None:
        """Set a variable of the environment."""
        name, _, value = self.bind(setting).partition("=")
        self.monkeypatch.setenv(name, value)


@pytest.fixture
def stage(
    tgi_server: Callable[..., TGIServer], openai_server: Callable[..., OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """Servers that know politics and science, and the names that the page's code uses."""
    made = Stage(tgi_server("3.3.7", ENGINE), openai_server("vllm", ENGINE), tgi_server, openai_server, monkeypatch)
    made.serve()
    endpoint = made.endpoint(endpoint_url=made.tgi.url, max_new_tokens=16)
    made.names.update(
        {name: getattr(langchain_stormtrooper, name) for name in langchain_stormtrooper._HOME_OF},
        HuggingFaceEndpoint=made.endpoint,
        TGIServer=TGIServer,
        OpenAIServer=OpenAIServer,
        asyncio=asyncio,
        labels=LABELS,
        text=POLITICS,
        texts=[POLITICS, SCIENCE, "Nice day."],
        long=f"{POLITICS} " * 2000,
        prompt=f"{POLITICS} Label:",
        template=PromptTemplate.from_template("{text} Label:"),
        parser=langchain_stormtrooper.LabelOutputParser(labels=LABELS),
        model=langchain_stormtrooper.TGIZeroShotClassifier().fit(None, LABELS),
        few=langchain_stormtrooper.TGIFewShotClassifier(),
        endpoint=endpoint,
        llm=TextGenerationInference(base_url=made.tgi.url, max_new_tokens=16),
    )
    yield made
    for client in made.clients:
        client.close()
    close_session()  # all clients share one, which keeps connections to servers that are gone


Check = Callable[[Stage, Line], Awaitable[None]]
CHECKS: dict[tuple[str, str], Check] = {}


def checks(section: str, *had: str) -> Callable[[Check], Check]:
    """Mark the check of the lines of a section that begin so."""

    def mark(check: Check) -> Check:
        for start in had:
            assert (section, start) not in CHECKS
            CHECKS[section, start] = check
        return check

    return mark


def ids(line: Line) -> str:
    """A name for a line."""
    return f"{line.section}: {line.had}"


@pytest.mark.parametrize("line", LINES, ids=ids)
async def test_a_line_holds(stage: Stage, line: Line) -> None:
    """The line has a check of its own, which runs its code and finds what the line says."""
    assert (line.section, line.had) in CHECKS, "a new line needs a check"
    await CHECKS[line.section, line.had](stage, line)
    assert line.here in stage.ran


def test_no_check_is_left_over() -> None:
    """Every check is of a line that there is, and no two lines begin alike."""
    assert sorted(CHECKS) == sorted((line.section, line.had) for line in LINES)
    assert {line.section for line in LINES} == {"stormtrooper", "HuggingFaceEndpoint", "TGI"}


def sent(server: TGIServer | OpenAIServer, what: str = "") -> Any:
    """The parameters that a server was sent last with a generation."""
    body = next(one.json for one in reversed(server.received) if isinstance(one.json, dict) and what in str(one.json))
    return body.get("parameters", body)


def key_sent(server: TGIServer | OpenAIServer) -> str | None:
    """The credentials that a server was sent last."""
    return {name.lower(): value for name, value in server.received[-1].headers.items()}.get("authorization")


def predicted(model: Any, *texts: str) -> list[Any]:
    """Labels by an estimator that learns the page's labels."""
    found: list[Any] = model.fit(None, LABELS).predict(list(texts) or [POLITICS, SCIENCE]).tolist()
    return found


# --- stormtrooper ---


@checks("stormtrooper", "from stormtrooper import TGIFewShotClassifier, TGIZeroShotClassifier")
async def _imports(stage: Stage, line: Line) -> None:
    wanted = ["endpoint", "prompt", "max_new_tokens", "fuzzy_match", "device"]
    names = re.findall(r"TGI\w+", line.had)
    assert line.had.replace("stormtrooper", "langchain_stormtrooper") == line.here
    for name in names:
        del stage.names[name]
    await stage.run(line.here)
    for name in names:
        parameters = [
            one for one in inspect.signature(stage.names[name]).parameters.values() if one.kind < one.KEYWORD_ONLY
        ]
        assert [one.name for one in parameters] == wanted


@checks("stormtrooper", 'Trooper("HuggingFaceTB/SmolLM2-135M-Instruct").fit(None, labels)')
async def _no_trooper(stage: Stage, line: Line) -> None:
    pytest.importorskip("xllamacpp")
    assert not hasattr(langchain_stormtrooper, "Trooper")
    model = await stage.run(line.here)
    assert model.predict(["It is the Electoral College's responsibility to elect the president."]).tolist() == [
        "politics"
    ]
    assert stage.tgi.requests == 0


@checks("stormtrooper", 'TGIZeroShotClassifier(endpoint="http://127.0.0.1:8080/generate")')
async def _endpoint(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    stage.monkeypatch.delenv("TGI_BASE_URL")
    assert predicted(await stage.run(line.here)) == ["politics", "science"]
    assert (
        predicted(await stage.run(line.here.replace("endpoint=", "base_url=").replace("/generate", ""))) == LABELS[:2]
    )


@checks("stormtrooper", "a gateway that adds the server's key")
async def _key(stage: Stage, line: Line) -> None:
    stage.serve(tgi=stage.tgi_server("3.3.7", ENGINE, api_key="key"))
    assert predicted(await stage.run(line.here)) == ["politics", "science"]


@checks(
    "stormtrooper",
    r'TGIZeroShotClassifier(prompt="One of {classes}. Text: {X}\nLabel:")',
    r'TGIFewShotClassifier(prompt="{examples}\nOne of {classes}. Text: {X}\nLabel:")',
)
async def _prompts(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    model = await stage.run(line.here)
    assert model.fit([SCIENCE, POLITICS], ["science", "politics"]).predict([POLITICS]).tolist() == ["politics"]
    said = stage.tgi.received[-1].json["inputs"]
    assert said.endswith(f"One of 'politics', 'science'. Text: {POLITICS}\nLabel:")
    assert (SCIENCE in said) == ("{examples}" in line.here)


@checks("stormtrooper", "TGIZeroShotClassifier(max_new_tokens=256)")
async def _generates(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    assert predicted(await stage.run(line.here)) == ["politics", "science"]
    assert sent(stage.tgi)["max_new_tokens"] == 256
    assert stage.tgi.counters.by_route["/generate"] == 2


@checks("stormtrooper", "TGIZeroShotClassifier()")
async def _scores(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    model = await stage.run(line.here)
    assert predicted(model) == ["politics", "science"]
    assert sent(stage.tgi, "top_n_tokens")["max_new_tokens"] == 1
    answer = model.classifier_.with_details().invoke(POLITICS)
    assert (answer.method, answer.generated_tokens) == ("score", 1)


@checks("stormtrooper", "TGIZeroShotClassifier(fuzzy_match=True, max_new_tokens=256)")
async def _fuzzy(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    said = when_contains({"senate": " Politcs.", "nucleus": " xyzzy"}, default=" politics or science")
    stage.serve(tgi=stage.tgi_server("3.3.7", ScriptedEngine(said)))
    model = await stage.run(line.here)
    with pytest.warns(langchain_stormtrooper.UnmatchedLabelWarning):
        assert predicted(model, POLITICS, SCIENCE, "Nice day.") == ["politics", None, None]


@checks("stormtrooper", "TGIZeroShotClassifier(fuzzy_match=False)")
async def _not_fuzzy(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    said = when_contains({"senate": " Politcs.", "nucleus": " science"})
    stage.serve(tgi=stage.tgi_server("3.3.7", ScriptedEngine(said)))
    model = await stage.run(line.here)
    with pytest.warns(langchain_stormtrooper.UnmatchedLabelWarning):
        assert predicted(model) == [None, "science"]


@checks("stormtrooper", 'TGIZeroShotClassifier(device="cuda")')
async def _device(stage: Stage, line: Line) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert predicted(await stage.run(line.here)) == ["politics", "science"]
        assert predicted(await stage.run(line.had.replace("cuda", "cpu"))) == ["politics", "science"]
    with pytest.warns(langchain_stormtrooper.StormtrooperWarning, match="device"):
        assert predicted(await stage.run(line.had)) == ["politics", "science"]


@checks("stormtrooper", "model.fit(None, labels)")
async def _order(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    stage.names["labels"] = ["science", "politics", "other"]
    model = await stage.run(line.here)
    assert model.classes_.tolist() == ["other", "politics", "science"]
    assert model.predict([POLITICS]).tolist() == ["politics"]
    said = stage.tgi.received[-1].json["inputs"]
    assert said.index("science") < said.index("politics") < said.index("other")
    stage.names["labels"] = set(LABELS)
    with pytest.raises(langchain_stormtrooper.LabelError, match="a set has none"):
        await stage.run(line.here)


@checks("stormtrooper", "few.fit(texts, labels)")
async def _few(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    model = await stage.run(line.here)
    assert model.examples_ == {"politics": [POLITICS], "science": [SCIENCE], "other": ["Nice day."]}
    assert model.predict([SCIENCE]).tolist()[0] in LABELS


@checks("stormtrooper", 'model.partial_fit(None, ["sport"])')
async def _partial(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    assert (await stage.run(line.here)).classes_.tolist() == sorted([*LABELS, "sport"])


@checks("stormtrooper", "model.predict(texts)")
async def _predict(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    stage.names["texts"] = [f"{POLITICS} {number}" for number in range(100)]
    stage.serve(tgi=stage.tgi_server("3.3.7", ENGINE, latency_per_request=0.05))
    stage.names["model"] = stage.names["TGIZeroShotClassifier"]().fit(None, LABELS)
    # In a running event loop, this one.
    found = await stage.run(line.here)
    assert isinstance(found, np.ndarray)
    assert found.tolist() == ["politics"] * 100
    assert 2 < stage.tgi.peak_permits <= 64


@checks("stormtrooper", "model.predict([text, long])")
async def _overlong(stage: Stage, line: Line) -> None:
    assert line.had == line.here
    with pytest.warns(langchain_stormtrooper.OverlongInputWarning) as seen:
        assert (await stage.run(line.here)).tolist() == ["politics", None]
    with pytest.warns(langchain_stormtrooper.OverlongInputWarning) as more:
        assert stage.names["model"].predict([stage.names["long"]] * 3).tolist() == [None] * 3
    assert len(seen) == len(more) == 1


@checks("stormtrooper", "no probabilities")
async def _probabilities(stage: Stage, line: Line) -> None:
    table = await stage.run(line.here)
    assert table.shape == (3, 3)
    assert table.sum(axis=1) == pytest.approx([1, 1, 1])
    assert stage.names["model"].classes_[table[:2].argmax(axis=1)].tolist() == ["politics", "science"]


@checks("stormtrooper", "await asyncio.to_thread(model.predict, texts)")
async def _async(stage: Stage, line: Line) -> None:
    had, here = await stage.run(line.had), await stage.run(line.here)
    assert had.tolist() == here
    assert here[:2] == ["politics", "science"]


# --- HuggingFaceEndpoint ---

AT = 'HuggingFaceEndpoint(endpoint_url="http://127.0.0.1:8080"'


@checks("HuggingFaceEndpoint", f"{AT})", f"{AT}, max_new_tokens=512)", rf"{AT}, temperature=0.01, do_sample=False)")
async def _same_answers(stage: Stage, line: Line) -> None:
    stage.serve(tgi=stage.tgi_server("3.3.7", CERTAIN))
    had, here = await stage.run(line.had), await stage.run(line.here)
    assert had.invoke(stage.names["prompt"]) == " politics"
    theirs = sent(stage.tgi)
    assert here.invoke(stage.names["prompt"]) == " politics"
    ours = sent(stage.tgi)
    assert ours["do_sample"] is False
    assert not {"temperature", "top_p", "typical_p", "top_k"} & {
        name for name, value in ours.items() if value is not None
    }
    # They sample, and say that they do not.
    assert (theirs["do_sample"], theirs["top_p"], theirs["typical_p"]) == (False, 0.95, 0.95)
    assert theirs["temperature"] == (0.01 if "temperature" in line.had else 0.8)
    assert theirs["max_new_tokens"] == 512
    assert ours["max_new_tokens"] == (512 if "512" in line.here else 256)
    assert TextGenerationInference() == TextGenerationInference(base_url=stage.tgi.url)


@checks("HuggingFaceEndpoint", f'{AT}, huggingfacehub_api_token="key")')
async def _token(stage: Stage, line: Line) -> None:
    stage.serve(tgi=stage.tgi_server("3.3.7", CERTAIN))
    stage.monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    (await stage.run(line.had)).invoke(stage.names["prompt"])
    assert key_sent(stage.tgi) == "Bearer hf_of_the_environment"
    (await stage.run(line.here)).invoke(stage.names["prompt"])
    assert key_sent(stage.tgi) == "Bearer key"
    stage.monkeypatch.setenv("TGI_API_KEY", "key-of-tgi")
    TextGenerationInference().invoke(stage.names["prompt"])
    assert key_sent(stage.tgi) == "Bearer key-of-tgi"


@checks("HuggingFaceEndpoint", rf'{AT}, stop_sequences=["\n"])')
async def _stop(stage: Stage, line: Line) -> None:
    stage.serve(tgi=stage.tgi_server("3.3.7", ScriptedEngine(lambda _: " politics\nand more")))
    for code in (line.had, line.here):
        llm = await stage.run(code)
        assert llm.invoke(stage.names["prompt"]) == " politics" + ("" if code == line.had else "\n")
        assert sent(stage.tgi)["stop"] == ["\n"]
        assert (llm | stage.names["parser"]).invoke(stage.names["prompt"]) == "politics"


@checks("HuggingFaceEndpoint", f"{AT}, timeout=60)")
async def _timeout(stage: Stage, line: Line) -> None:
    had, here = await stage.run(line.had), await stage.run(line.here)
    assert had.timeout == here.timeout == 60
    assert here.invoke(stage.names["prompt"]) == " politics"


@checks("HuggingFaceEndpoint", f'{AT}, server_kwargs={{"headers": {{"X-Team": "a"}}}})')
async def _headers(stage: Stage, line: Line) -> None:
    for code in (line.had, line.here):
        (await stage.run(code)).invoke(stage.names["prompt"])
        assert {name.lower(): value for name, value in stage.tgi.received[-1].headers.items()}["x-team"] == "a"
    assert "X-Team" not in repr(await stage.run(line.here))


@checks("HuggingFaceEndpoint", f'{AT}, model_kwargs={{"best_of": 1}})')
async def _further(stage: Stage, line: Line) -> None:
    stage.serve(tgi=stage.tgi_server("3.3.7", CERTAIN))
    for code in (line.had, line.here):
        assert (await stage.run(code)).invoke(stage.names["prompt"]) == " politics"
    with pytest.raises(ConfigurationError, match="best_of"):
        await stage.run(line.here.replace(")", ", best_of=1)"))


@checks("HuggingFaceEndpoint", f"{AT}, streaming=True).invoke(prompt)")
async def _streams(stage: Stage, line: Line) -> None:
    stage.serve(tgi=stage.tgi_server("3.3.7", CERTAIN))
    for code in (line.had, line.here):
        stage.tgi.reset()
        assert (await stage.run(code)).removesuffix("</s>") == " politics"
        assert stage.tgi.requests >= 1
    assert stage.tgi.counters.by_route["/generate_stream"] == 1


@checks("HuggingFaceEndpoint", "await endpoint.abatch(texts)")
async def _batch(stage: Stage, line: Line) -> None:
    texts = stage.names["texts"] = [f"{POLITICS} {number}" for number in range(70)]
    stage.serve(tgi=stage.tgi_server("3.3.7", CERTAIN, latency_per_request=0.05))
    stage.names["endpoint"] = stage.endpoint(endpoint_url=stage.tgi.url, max_new_tokens=16)
    stage.names["llm"] = TextGenerationInference()
    async with stage.names["endpoint"].async_client:
        assert await stage.run(line.had) == [" politics"] * len(texts)
    assert stage.tgi.peak_permits == 1
    stage.tgi.reset()
    assert await stage.run(line.here) == [" politics"] * len(texts)
    assert 2 < stage.tgi.peak_permits <= 64


@checks("HuggingFaceEndpoint", "await (template | endpoint).abatch(texts)")
async def _kept(stage: Stage, line: Line) -> None:
    stage.names["texts"] = [{"text": f"{POLITICS} {number}"} for number in range(40)]
    stage.serve(tgi=stage.tgi_server("3.3.7", CERTAIN, latency_per_request=0.05))
    stage.names["endpoint"] = stage.endpoint(endpoint_url=stage.tgi.url, max_new_tokens=16)
    async with stage.names["endpoint"].async_client:
        assert await stage.run(line.had) == [" politics"] * 40
        assert stage.tgi.peak_permits == 1
        stage.tgi.reset()
        assert await stage.run(line.here) == ["politics"] * 40
        # The classifier is gone with its line; its connections are closed soon after, if the loop goes on.
        gc.collect()
        for _ in range(500):
            if foreign_clients._guards.get(asyncio.get_running_loop()):
                await asyncio.sleep(0.01)
    assert 2 < stage.tgi.peak_permits <= 16
    assert sent(stage.tgi).get("temperature") is None


@checks("HuggingFaceEndpoint", "template | endpoint | parser")
async def _chain(stage: Stage, line: Line) -> None:
    stage.names["endpoint"] = stage.endpoint(
        endpoint_url=stage.tgi.url, max_new_tokens=16, temperature=None, top_p=None, typical_p=None
    )
    for code in (line.had, line.here):
        chain = await stage.run(code)
        assert [chain.invoke({"text": text}) for text in (POLITICS, SCIENCE)] == ["politics", "science"]


@checks("HuggingFaceEndpoint", "endpoint")
async def _from_endpoint(stage: Stage, line: Line) -> None:
    stage.names["endpoint"] = stage.endpoint(
        endpoint_url=stage.tgi.url,
        huggingfacehub_api_token="key",
        max_new_tokens=16,
        stop_sequences=["\n"],
        timeout=9,
        server_kwargs={"headers": {"X-Team": "a"}},
    )
    assert await stage.run(line.had) is stage.names["endpoint"]
    with pytest.warns(langchain_stormtrooper.SettingsWarning, match="dropped: temperature|dropped: top_p") as seen:
        llm = await stage.run(line.here)
    assert {"temperature", "top_p", "typical_p"} <= set(re.findall(r"\w+", str(seen[0].message)))
    assert llm == TextGenerationInference(
        base_url=stage.tgi.url, api_key="key", max_new_tokens=16, stop=["\n"], timeout=9, headers={"X-Team": "a"}
    )
    assert llm.invoke(stage.names["prompt"]) == " politics"


@checks("HuggingFaceEndpoint", "endpoint.invoke(long)")
async def _raises(stage: Stage, line: Line) -> None:
    with pytest.raises(Exception, match=r"tokens|422"):
        await stage.run(line.had)
    with pytest.raises(ContextOverflowError):
        await stage.run(line.here)
    quiet = line.here.replace(', on_overlong="raise"', "")
    assert quiet != line.here
    with pytest.warns(langchain_stormtrooper.OverlongInputWarning):
        assert await stage.run(quiet.replace(".invoke(long)", ".batch([long])")) == [""]


# --- TGI ---


@checks("TGI", 'TextGenerationInference(base_url="http://127.0.0.1:8080")')
async def _another_line(stage: Stage, line: Line) -> None:
    for code in (line.had, line.here, line.here.replace(OPENAI, f"{OPENAI}/v1")):
        assert (await stage.run(code)).invoke(stage.names["prompt"]) == " politics"
    assert stage.openai.counters.by_route["/v1/completions"] == 2


@checks("TGI", "TextGenerationInference()")
async def _ports(stage: Stage, line: Line) -> None:
    for code, url in ((line.had, stage.tgi.url), (line.here, stage.openai.url)):
        assert (await stage.run(code)).base_url == url
    stage.monkeypatch.delenv("TGI_BASE_URL")
    stage.monkeypatch.delenv("OPENAI_COMPATIBLE_BASE_URL")
    for code, url in ((line.had, TGI), (line.here, OPENAI)):
        assert (await stage.run(code)).base_url == url


@checks("TGI", "TGI_BASE_URL=http://127.0.0.1:8080")
async def _addresses(stage: Stage, line: Line) -> None:
    stage.monkeypatch.delenv("TGI_BASE_URL")
    stage.monkeypatch.delenv("OPENAI_COMPATIBLE_BASE_URL")
    stage.variable(line.had)
    stage.variable(line.here)
    assert TextGenerationInference().invoke(stage.names["prompt"]) == " politics"
    assert OpenAICompletions().invoke(stage.names["prompt"]) == " politics"
    assert stage.tgi.requests
    assert stage.openai.requests


@checks("TGI", "TGI_API_KEY=key")
async def _keys(stage: Stage, line: Line) -> None:
    stage.serve(
        tgi=stage.tgi_server("3.3.7", ENGINE, api_key="key"), openai=stage.openai_server("vllm", ENGINE, api_key="key")
    )
    for setting, kind in ((line.had, TextGenerationInference), (line.here, OpenAICompletions)):
        with pytest.raises(langchain_stormtrooper.AuthenticationError):
            kind().invoke(stage.names["prompt"])
        stage.variable(setting)
        assert kind().invoke(stage.names["prompt"]) == " politics"


@checks(
    "TGI",
    "ZeroShotClassifier(labels)",
    'ZeroShotClassifier(labels, method="constrain")',
    'ZeroShotClassifier(labels, prompt="chat")',
)
async def _classifiers(stage: Stage, line: Line) -> None:
    servers = [stage.openai]
    if "constrain" in line.here or "chat" in line.here:
        servers += [stage.openai_server("sglang", ENGINE)]
    had = await stage.run(line.had)
    assert had.batch([POLITICS, SCIENCE]) == ["politics", "science"]
    assert stage.tgi.requests
    for server in servers:
        stage.serve(openai=server)
        here = await stage.run(line.here)
        answers = here.with_details().batch([POLITICS, SCIENCE])
        assert [answer.label for answer in answers] == ["politics", "science"]
        assert {answer.method for answer in answers} == {"constrain" if "constrain" in line.here else "score"}
        assert server.requests
        if "chat" in line.here:
            assert had.get_prompt() == here.get_prompt()
            assert had.get_prompt() != (await stage.run(line.here.replace('"chat"', '"task"'))).get_prompt()
            assert server.counters.by_route["/tokenize"]
        if "constrain" in line.here:
            assert sent(server, "regex")
    if "chat" in line.here:
        for without in (
            stage.openai_server("sglang", ENGINE, version="0.5.11"),
            stage.openai_server("generic", ENGINE),
        ):
            stage.serve(openai=without)
            with pytest.raises(ConfigurationError, match="choose another"):
                (await stage.run(line.here)).invoke(POLITICS)
            left_out = await stage.run(line.here.replace('prompt="chat", ', ""))
            assert left_out.get_prompt() == left_out.model_copy(update={"prompt": "kinds"}).get_prompt()
            applied = await stage.run(line.here.replace("OpenAICompletions()", 'OpenAICompletions(api="chat")'))
            assert applied.batch([POLITICS, SCIENCE]) == ["politics", "science"]
            assert without.counters.by_route["/v1/chat/completions"]


@checks("TGI", 'TGIZeroShotClassifier(endpoint="http://127.0.0.1:8080")')
async def _estimators(stage: Stage, line: Line) -> None:
    for code in (line.had, line.here):
        assert predicted(await stage.run(code)) == ["politics", "science"]
    assert stage.openai.requests


@checks(
    "TGI",
    r'TextGenerationInference(max_new_tokens=16, stop=["\n"], timeout=60, max_concurrency=32, on_overlong="raise")',
)
async def _settings(stage: Stage, line: Line) -> None:
    had, here = await stage.run(line.had), await stage.run(line.here)
    assert line.had.replace("TextGenerationInference", "OpenAICompletions") == line.here
    for name in (
        "max_new_tokens",
        "stop",
        "timeout",
        "max_concurrency",
        "on_overlong",
        "max_downtime",
        "max_body_bytes",
    ):
        assert getattr(had, name) == getattr(here, name)
    with pytest.raises(ContextOverflowError):
        here.invoke(stage.names["long"])
    assert here.invoke(stage.names["prompt"]) == " politics"
    assert (sent(stage.openai, "senate")["max_tokens"], sent(stage.openai, "senate")["stop"]) == (16, ["\n"])
    assert OpenAICompletions(headers={"X-Team": "a"}, max_downtime=3, max_body_bytes=999).max_body_bytes == 999


@checks("TGI", "one model per server")
async def _models(stage: Stage, line: Line) -> None:
    for llm in (await stage.run(line.here), OpenAICompletions()):
        assert llm.invoke(stage.names["prompt"]) == " politics"
        assert sent(stage.openai, "senate")["model"] == "stormtrooper/scripted"
    with pytest.raises(ConfigurationError, match="no model of that name"):
        OpenAICompletions(model="another").invoke(stage.names["prompt"])


@checks("TGI", 'TextGenerationInference(scoring="masked")')
async def _chosen(stage: Stage, line: Line) -> None:
    await _scoring(stage, line)
    assert sent(stage.openai, "logprob_token_ids")
    stage.serve(openai=stage.openai_server("sglang", ENGINE))
    await _scoring(stage, line)
    assert stage.openai.counters.by_route["/v1/score"]


@checks("TGI", 'TextGenerationInference(scoring="raw")', 'TextGenerationInference(scoring="prefill")')
async def _scoring(stage: Stage, line: Line) -> None:
    stage.serve(tgi=stage.tgi_server("3.3.7", ENGINE, prefill_logprobs="prefill" in line.had))
    found = []
    for code in (line.had, line.here):
        llm = await stage.run(code)
        classifier = stage.names["ZeroShotClassifier"](
            LABELS, llm=llm, prompt="{text}\nLabel:", method="score", prior=None
        )
        answer = classifier.with_details().invoke(POLITICS)
        assert (answer.label, answer.method) == ("politics", "score")
        found.append(answer.probabilities)
        abilities = await llm.aabilities()
        if "raw" in code:
            top = getattr(abilities, "general", abilities).top_tokens
            assert top == (20 if "OpenAI" in code else 5)
    assert found[0] == pytest.approx(found[1], abs=1e-3)
    if "prefill" in line.had:
        without = TextGenerationInference(base_url=stage.tgi_server("3.3.7", ENGINE).url)
        assert not (await without.aabilities()).prefill


@checks("TGI", "/v1/chat/completions` alone")
async def _chats(stage: Stage, line: Line) -> None:
    stage.serve(openai=stage.openai_server("generic", ENGINE, completions=False))
    llm = await stage.run(line.here)
    assert llm.invoke(POLITICS) == " politics"
    assert stage.names["ZeroShotClassifier"](LABELS, llm=llm).batch([POLITICS, SCIENCE]) == ["politics", "science"]
    assert sent(stage.openai)["messages"][0]["role"] == "user"
    with pytest.raises(langchain_stormtrooper.EndpointNotFoundError):
        OpenAICompletions().invoke(POLITICS)


@checks("TGI", "TextGenerationInference.from_endpoint(endpoint)")
async def _address_of_endpoint(stage: Stage, line: Line) -> None:
    stage.names["endpoint"] = stage.endpoint(
        endpoint_url=f"{stage.openai.url}/v1", top_p=None, typical_p=None, temperature=None
    )
    assert (await stage.run(line.had)).base_url == stage.openai.url
    assert (await stage.run(line.here)).invoke(stage.names["prompt"]) == " politics"
    plain = stage.endpoint(endpoint_url=stage.openai.url)
    with pytest.raises(Exception, match="404"):
        plain.invoke(stage.names["prompt"])


@checks(
    "TGI",
    'langchain-stormtrooper classify --labels politics,science,other --llm http://127.0.0.1:8080 "The senate votes."',
    "langchain-stormtrooper probe http://127.0.0.1:8080",
)
async def _commands(stage: Stage, line: Line) -> None:
    for command, server in ((line.had, stage.tgi), (line.here, stage.openai)):
        told = await asyncio.to_thread(stage.shell, command)
        assert ("politics" if "classify" in command else "stormtrooper/scripted") in told
        assert server.requests


def accepts(llm: TextGenerationInference | OpenAICompletions, words: int) -> bool:
    """Whether a prompt of so many words is answered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", langchain_stormtrooper.OverlongInputWarning)
        return llm.batch([ENGINE.text_of(words)]) != [""]


@checks("TGI", "--max-input-tokens 1000 --max-total-tokens 1256")
async def _lengths(stage: Stage, line: Line) -> None:
    had, here = stage.options(line.had), stage.options(line.here)
    assert list(here) == ["max_model_len"]
    stage.serve(tgi=stage.tgi_server("3.3.7", ENGINE, **had), openai=stage.openai_server("vllm", ENGINE, **here))
    for llm in (TextGenerationInference(), OpenAICompletions()):
        assert (accepts(llm, 990), accepts(llm, 1270)) == (True, False)


@checks("TGI", "--max-top-n-tokens 5")
async def _alternatives(stage: Stage, line: Line) -> None:
    had, here = stage.options(line.had), stage.options(line.here)
    served = stage.tgi_server("3.3.7", ENGINE, **had), stage.openai_server("vllm", ENGINE, **here)
    stage.serve(tgi=served[0], openai=served[1])
    assert (await TextGenerationInference().aabilities()).top_tokens == had["max_top_n_tokens"] == 5
    assert (await OpenAICompletions().aabilities()).general.top_tokens == here["max_logprobs"]
    default = OpenAICompletions(base_url=stage.openai_server("vllm", ENGINE).url)
    assert (await default.aabilities()).general.top_tokens == here["max_logprobs"]


@checks("TGI", "--max-concurrent-requests 8")
async def _permits(stage: Stage, line: Line) -> None:
    had = stage.options(line.had)
    stage.serve(
        tgi=stage.tgi_server("3.3.7", ENGINE, latency_per_request=0.05, **had),
        openai=stage.openai_server("vllm", ENGINE, latency_per_request=0.05),
    )
    for llm, server in ((TextGenerationInference(), stage.tgi), (await stage.run(line.here), stage.openai)):
        assert llm.batch([f"{POLITICS} {number}" for number in range(30)]) == [" politics"] * 30
        assert 2 < server.peak_permits <= had["max_concurrent_requests"] == 8


@checks("TGI", 'TGIServer("3.3.7")')
async def _stand_ins(stage: Stage, line: Line) -> None:
    for code, kind in ((line.had, TextGenerationInference), (line.here, OpenAICompletions)):
        with await stage.run(code) as server:
            assert kind(base_url=server.url).invoke(POLITICS) == " ok"
    for flavour in ("sglang", "generic"):
        with await stage.run(line.here.replace("vllm", flavour)) as server:
            assert OpenAICompletions(base_url=server.url).invoke(POLITICS) == " ok"
