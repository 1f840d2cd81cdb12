"""The local cloud: the unchanged template, deployed by stock `sam` into an emulator that ends with a `with` block.

    with local_cloud(root=Path.cwd(), state_dir=Path(".local")) as stack:
        httpx.get(f"{stack.api_url}/v1/health")

What the emulator leaves out of a deployment (the routes of HTTP APIs) is added here after the deployment, never in the
template. Everything this module starts lives in its own process group and ends with the block, whatever ends the block.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any, Self
from urllib.parse import urlsplit

import boto3
import httpx
import jwt
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

CONFIG_ENV = "local"
ROOT_KEY = "test"  # the emulator's root credentials; it does not check a root's signature
TOKEN_TTL = 24 * 60 * 60  # seconds the tokens in stack.json are valid
DEMO_CREDITS = 1000
DEMO_SCOPES = {"alice": "studio", "bob": "studio", "admin": "studio admin"}
SOURCES = ("template.yaml", "samconfig.toml", "functions", "shared", "layers")
SIMULATOR_KEY = "r8_local"
KIE_TEST_KEY = "kie-test-hmac-key"
# What the keys of each provider look like.
KEY_PREFIXES = {
    "replicate": SIMULATOR_KEY,
    "kie": "kie_local",
    "fal": "fal_local",
    "openai": "sk-local",
    "elevenlabs": "el_local",
    "gemini": "gm_local",
    "postiz": "postiz_local",
    "pexels": "pexels_local",
}
LATE_AFTER = 25.0  # seconds: well after the deadline of an image under the local TimeScale (18 s)

HEALTH_TIMEOUT = 30.0
SIMULATOR_TIMEOUT = 20.0
BUILD_TIMEOUT = 600.0
DEPLOY_TIMEOUT = 300.0
STOP_TIMEOUT = 3.0
LAST_LINES = 6

type Say = Callable[[str], None]
type Json = dict[str, Any]


class CloudError(Exception):
    """Something foreseeable went wrong; the message says what, for a person, in a few lines."""


class _Interrupts:
    """Makes SIGTERM and SIGHUP end the block as SIGINT does, and holds them while a child process is being recorded."""

    def __init__(self) -> None:
        self._held = False
        self._pending = False
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals over, if this is the thread that may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._previous[number] = signal.signal(number, self._interrupt)

    def hold(self) -> None:
        """From here on an interrupt is only remembered."""
        self._held = True

    def let_through(self) -> None:
        """Deliver what was held back, and everything from here on at once."""
        self._held = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def restore(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._pending = True
        else:
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Process:
    """A child process that leads its own process group, and the file its output goes to."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.popen.poll() is None

    def stop(self) -> None:
        """End the whole group: the emulator's Lambda workers are subprocesses of it."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_TIMEOUT)
        self._signal(signal.SIGKILL)
        self.popen.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, number)

    def last_words(self) -> str:
        """What it said about its end, indented: from its first error on, or else the last lines."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [number for number, line in enumerate(lines) if re.match(r"(\w*Error|Build Failed)\b", line)]
        shown = lines[errors[0] : errors[0] + LAST_LINES] if errors else lines[-LAST_LINES:]
        return "\n".join(f"    {line}" for line in takewhile(lambda line: not line.startswith("Traceback"), shown))


@dataclass
class _Run:
    """One local cloud being set up or taken down: where it keeps things and what must end with it."""

    root: Path
    state_dir: Path
    temporary: Path
    say: Say
    ends: ExitStack
    interrupts: _Interrupts

    def start(
        self, name: str, command: list[str], environment: Mapping[str, str], ends: ExitStack | None = None
    ) -> Process:
        """Start a child whose group ends with `ends`, or else with this run."""
        log = self.state_dir / f"{name}.log"
        self.interrupts.hold()
        try:
            with log.open("wb") as output:
                popen = subprocess.Popen(
                    command,
                    cwd=self.root,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            process = Process(name, popen, log)
            (ends or self.ends).callback(process.stop)
        except OSError as error:
            raise CloudError(f"cannot start {name} ({command[0]}): {error.strerror}") from error
        finally:
            self.interrupts.let_through()
        return process

    def finish(self, process: Process, timeout: float) -> int:
        """Wait for a child that ends by itself; the exit code."""
        try:
            return process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CloudError(f"{process.name} did not end within {timeout:.0f} s:\n{process.last_words()}") from None

    def environment(self, **extra: str) -> dict[str, str]:
        """What children inherit: nothing of the caller's AWS settings, and the virtual environment's programs first.

        The emulator hands its own environment to every Lambda, so it must hold nothing that AWS would not have there.
        """
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "SSL_CERT_FILE") if name in os.environ}
        path = os.pathsep.join([str(_programs()), os.environ.get("PATH", os.defpath)])
        return {**kept, "PATH": path, "TMPDIR": str(self.temporary), **extra}


def _programs() -> Path:
    """The folder of the running virtual environment's programs."""
    return Path(sys.prefix) / "bin"


def _check(processes: Iterable[Process]) -> None:
    """Raise CloudError if one of the processes has ended."""
    for process in processes:
        if not process.alive():
            raise CloudError(
                f"the {process.name} died (exit {process.popen.returncode}), see {process.log}:\n{process.last_words()}"
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Stack:
    """A deployed local cloud, as written to stack.json."""

    api_url: str
    webhook_url: str | None
    websocket_url: str | None
    console_url: str | None
    simulator_url: str
    aws_endpoint_url: str
    region: str
    stack_name: str
    buckets: dict[str, str]
    tables: dict[str, str]
    state_machines: dict[str, str]
    functions: dict[str, str]
    outputs: dict[str, str]
    parameters: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    pid: int = field(default_factory=os.getpid)
    processes: tuple[Process, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def load(cls, state_dir: Path) -> Self:
        """Read stack.json. Raises CloudError when no local cloud is up."""
        try:
            stack = cls(**json.loads((state_dir / "stack.json").read_text()))
        except (OSError, ValueError, TypeError):
            raise CloudError(f"no local cloud is up ({state_dir}/stack.json is missing): run `make up`") from None
        if not _alive(stack.pid):
            raise CloudError(f"no local cloud is up ({state_dir}/stack.json is from a dead run): run `make up`")
        return stack

    def save(self, state_dir: Path) -> None:
        """Write stack.json, readable by its owner only and never half written: it holds tokens."""
        content = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "processes"}
        draft = state_dir / "stack.json.new"
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(content, file, indent=2)
        draft.replace(state_dir / "stack.json")

    def watch(self) -> None:
        """Stay until a child dies (CloudError) or a signal comes (KeyboardInterrupt)."""
        while True:
            _check(self.processes)
            time.sleep(0.5)

    def client(self, service: str) -> Any:
        """A boto3 client of the emulator with root credentials."""
        return _client(service, self.aws_endpoint_url, self.region)

    def token(self, sub: str, scope: str = "studio", ttl: int = TOKEN_TTL) -> str:
        """A JWT for any account, signed with the deployed secret; a negative ttl gives an expired one."""
        secret = self.client("secretsmanager").get_secret_value(SecretId=self.outputs["JwtSecretName"])["SecretString"]
        now = int(time.time())
        claims = {
            "iss": self.parameters.get("JwtIssuer", "atelier"),
            "aud": self.parameters.get("JwtAudience", "atelier-api"),
            "sub": sub,
            "scope": scope,
            "iat": min(now, now + ttl),
            "exp": now + ttl,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, secret, algorithm="HS256")


@cache
def _client(service: str, endpoint: str, region: str) -> Any:
    # A session of its own: boto3's default one would read the user's profile, and is not safe to share among threads.
    session = boto3.session.Session(aws_access_key_id=ROOT_KEY, aws_secret_access_key=ROOT_KEY, region_name=region)
    config = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 2}, max_pool_connections=50)
    return session.client(service, endpoint_url=endpoint, config=config)  # type: ignore[call-overload]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def local_cloud(
    *,
    root: Path,
    state_dir: Path,
    simulator_url: str | None = None,
    say: Say = lambda line: None,
    parameters: Mapping[str, str] | None = None,
    grants: bool = True,
    late_after: float = LATE_AFTER,
    emulator_settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Build, deploy and furnish the template of `root` locally; everything ends with the block.

    `simulator_url`: a provider simulator that runs already; without it ours is started, and `late_after` is after how
    many seconds it delivers what it delivers late. `parameters` override those of samconfig.toml. `grants` gives alice
    and bob their demo credits. `emulator_settings` are environment variables of the emulator (CLOUDTRAIL_RECORDING=1).

    Raises CloudError for every foreseeable failure and KeyboardInterrupt for SIGINT, SIGTERM and SIGHUP alike, in both
    cases after everything is taken down.
    """
    root, state_dir = root.resolve(), state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True)
    interrupts = _Interrupts()
    with ExitStack() as ends:
        ends.callback(interrupts.restore)
        interrupts.install()
        ends.enter_context(_alone(state_dir))
        temporary = Path(tempfile.mkdtemp(prefix="atelier-"))
        ends.callback(shutil.rmtree, temporary, ignore_errors=True)
        ends.callback((state_dir / "stack.json").unlink, missing_ok=True)
        run = _Run(root, state_dir, temporary, say, ends, interrupts)
        try:
            stack = _bring_up(run, simulator_url, parameters or {}, late_after, emulator_settings or {})
            if grants:
                _grant_demo_credits(stack, say)
            stack.save(state_dir)
            yield stack
        finally:
            # Once the way down has begun, a second Ctrl-C must not leave half of it standing.
            interrupts.hold()


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock: the kernel frees it however we die, so a dead run never blocks a new one."""
    with (state_dir / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CloudError(f"a local cloud is up already in {state_dir}{_whose(state_dir)}: stop it first") from None
        yield


def _whose(state_dir: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        return f" (pid {json.loads((state_dir / 'stack.json').read_text())['pid']})"
    return ""


def _bring_up(
    run: _Run,
    simulator_url: str | None,
    parameters: Mapping[str, str],
    late_after: float,
    emulator_settings: Mapping[str, str],
) -> Stack:
    """Start the parts, deploy the template, fill the secrets; everything but the demo credits."""
    settings = _SamSettings.read(run.root)
    emulator, endpoint = _start_emulator(run, settings.region, emulator_settings)
    processes = [emulator]
    try:
        _build(run)
        _await_health(emulator, endpoint)
        if simulator_url is None:
            simulator, simulator_url = _start_simulator(run, endpoint, late_after)
            processes.append(simulator)
        simulator_url = simulator_url.rstrip("/")
        overrides = {
            **settings.parameters,
            "ReplicateBaseUrl": _replicate_base_url(simulator_url),
            "KieBaseUrl": f"{simulator_url}/kie",
            "FalBaseUrl": f"{simulator_url}/fal",
            "FalJwksUrl": f"{simulator_url}/fal/.well-known/jwks.json",
            "OpenaiBaseUrl": f"{simulator_url}/openai/v1",
            "ElevenlabsBaseUrl": f"{simulator_url}/elevenlabs",
            "GeminiBaseUrl": f"{simulator_url}/gemini/v1beta",
            "PostizBaseUrl": f"{simulator_url}/postiz/public/v1",
            "PexelsBaseUrl": f"{simulator_url}/pexels",
            "AllowedPrivateOrigins": ",".join(_origins(simulator_url)),
            **parameters,
        }
        _deploy(run, settings, endpoint, overrides)
        stack = _furnish(settings, endpoint, simulator_url)
    except (ClientError, BotoCoreError, httpx.HTTPError) as error:
        _check(processes)
        raise CloudError(f"the emulator refused a step of the deployment: {error}") from error
    return replace(
        stack,
        processes=tuple(processes),
        tokens={sub: stack.token(sub, scope) for sub, scope in DEMO_SCOPES.items()} if _has_jwt(stack) else {},
    )


def _has_jwt(stack: Stack) -> bool:
    return "JwtSecretName" in stack.outputs


def _start_emulator(run: _Run, region: str, settings: Mapping[str, str]) -> tuple[Process, str]:
    port = _free_port()
    run.say(f"starting the emulator on port {port}")
    environment = run.environment(
        AUTH="true",
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        MINISTACK_REGION=region,
        STATE_DIR=str(run.temporary / "state"),
        S3_DATA_DIR=str(run.temporary / "s3"),
        LOG_LEVEL="WARNING",
        # Two listeners on fixed ports that a second emulator could not have as well.
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
    )
    return run.start("emulator", [sys.executable, "-m", "local.emulator"], {**environment, **settings}), (
        f"http://127.0.0.1:{port}"
    )


def _await_health(emulator: Process, endpoint: str) -> None:
    deadline = time.monotonic() + HEALTH_TIMEOUT
    while time.monotonic() < deadline:
        _check([emulator])
        with suppress(httpx.HTTPError):
            if httpx.get(f"{endpoint}/_ministack/health", timeout=5, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise CloudError(f"the emulator is not healthy after {HEALTH_TIMEOUT:.0f} s, see {emulator.log}")


def _start_simulator(run: _Run, endpoint: str, late_after: float) -> tuple[Process, str]:
    run.say("starting the simulated providers")
    command = [sys.executable, "-m", "local.simulator", "--port", "0", "--endpoint", endpoint]
    simulator = run.start(
        "simulator", [*command, "--late-after", f"{late_after:g}"], run.environment(PYTHONUNBUFFERED="1")
    )
    deadline = time.monotonic() + SIMULATOR_TIMEOUT
    while time.monotonic() < deadline:
        if ready := re.search(r"simulator ready (http://\S+)", simulator.log.read_text(errors="replace")):
            return simulator, ready[1]
        _check([simulator])
        time.sleep(0.05)
    raise CloudError(f"the simulator is not ready after {SIMULATOR_TIMEOUT:.0f} s, see {simulator.log}")


def _replicate_base_url(simulator_url: str) -> str:
    """Where the simulator keeps Replicate's API: under /replicate/v1, or at /v1 like the real one."""
    tried = [f"{simulator_url}/replicate/v1", f"{simulator_url}/v1"]
    for base in tried:
        with suppress(httpx.HTTPError, httpx.InvalidURL):
            answer = httpx.get(
                f"{base}/webhooks/default/secret",
                headers={"Authorization": f"Bearer {SIMULATOR_KEY}"},
                timeout=10,
                trust_env=False,
            )
            if answer.status_code == httpx.codes.OK:
                return base
    raise CloudError(
        "no simulated Replicate answers at the simulator: neither of these is 200\n"
        + "\n".join(f"    GET {base}/webhooks/default/secret" for base in tried)
    )


def _origins(url: str) -> list[str]:
    """The origin of the URL; a loopback host in both its spellings."""
    parts = urlsplit(url)
    hosts = ["127.0.0.1", "localhost"] if parts.hostname in ("127.0.0.1", "localhost") else [parts.hostname or ""]
    port = f":{parts.port}" if parts.port else ""
    return [f"{parts.scheme}://{host}{port}" for host in hosts]


@dataclass(frozen=True)
class _SamSettings:
    """What samconfig.toml says for the local environment."""

    region: str
    stack_name: str
    parameters: dict[str, str]

    @classmethod
    def read(cls, root: Path) -> Self:
        try:
            config = tomllib.loads((root / "samconfig.toml").read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise CloudError(f"cannot read samconfig.toml in {root}: {error}") from error
        environment: Json = config.get(CONFIG_ENV, {})
        values: Json = {
            **environment.get("global", {}).get("parameters", {}),
            **environment.get("deploy", {}).get("parameters", {}),
        }
        return cls(
            region=values.get("region", "us-east-1"),
            stack_name=values.get("stack_name", "atelier-local"),
            parameters=_parsed(values.get("parameter_overrides", [])),
        )


def _parsed(overrides: str | list[str]) -> dict[str, str]:
    """`parameter_overrides` in either spelling that sam knows: one string, or a list of `Name=value`."""
    pairs = shlex.split(overrides) if isinstance(overrides, str) else overrides
    return dict(pair.split("=", 1) for pair in pairs)


def _sam(run: _Run, name: str, arguments: list[str], timeout: float, **environment: str) -> tuple[int, Process]:
    """Run stock sam without telemetry and without its weekly look at PyPI."""
    home = run.temporary / "sam"
    home.mkdir(exist_ok=True)
    metadata = {"installationId": str(uuid.uuid4()), "telemetryEnabled": False, "lastVersionCheck": time.time()}
    (home / "metadata.json").write_text(json.dumps(metadata))
    environment |= {"SAM_CLI_TELEMETRY": "0", "__SAM_CLI_APP_DIR": str(home)}
    command = [str(_programs() / "sam"), *arguments, "--config-env", CONFIG_ENV]
    with ExitStack() as ends:
        process = run.start(name, command, run.environment(**environment), ends)
        return run.finish(process, timeout), process


def _build(run: _Run) -> None:
    """`sam build`, unless nothing it reads has changed since it last succeeded."""
    kept = run.root / ".local" / "build.sha256"
    with _build_lock(run.root, fcntl.LOCK_EX):
        fingerprint = _fingerprint(run.root)
        built = run.root / ".aws-sam" / "build" / "template.yaml"
        if built.exists() and kept.exists() and kept.read_text() == fingerprint:
            run.say("the build is up to date")
            return
        run.say("building (sam build)")
        kept.unlink(missing_ok=True)
        code, process = _sam(run, "build", ["build", "--cached", "--parallel"], BUILD_TIMEOUT)
        if code:
            raise CloudError(f"sam build failed, see {process.log}:\n{process.last_words()}")
        kept.write_text(fingerprint)


@contextmanager
def _build_lock(root: Path, kind: int) -> Iterator[None]:
    """Clouds of one checkout share `.aws-sam`: whoever builds is alone, those who deploy may be many."""
    (root / ".local").mkdir(exist_ok=True)
    with (root / ".local" / "build.lock").open("a") as lock:
        fcntl.flock(lock, kind)
        yield


def _fingerprint(root: Path) -> str:
    """A hash of the names and contents of everything `sam build` reads."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(path for name in SOURCES for path in _files(root / name)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root)}\0{content}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _deploy(run: _Run, settings: _SamSettings, endpoint: str, overrides: Mapping[str, str]) -> None:
    """`sam deploy` of the unchanged template. Overrides on the command line replace samconfig's: so they are merged."""
    run.say("deploying (sam deploy)")
    # In quotes: sam refuses an empty value and cuts at blanks without them.
    pairs = [f'{name}="{value}"' for name, value in overrides.items()]
    credentials = {
        "AWS_ACCESS_KEY_ID": ROOT_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        "AWS_DEFAULT_REGION": settings.region,
    }
    with _build_lock(run.root, fcntl.LOCK_SH):
        code, process = _sam(
            run,
            "deploy",
            ["deploy", "--no-confirm-changeset", "--no-progressbar", "--parameter-overrides", *pairs],
            DEPLOY_TIMEOUT,
            AWS_ENDPOINT_URL=endpoint,
            SAM_CLI_POLL_DELAY="1",
            **credentials,
        )
    if code:
        reasons = _failed_resources(_client("cloudformation", endpoint, settings.region), settings.stack_name)
        raise CloudError(f"sam deploy failed, see {process.log}:\n{reasons or process.last_words()}")


def _failed_resources(cloudformation: Any, stack_name: str) -> str:
    """Which resources failed and why, oldest first; nothing when the stack never came to be."""
    with suppress(ClientError, BotoCoreError):
        events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
        return "\n".join(
            f"    {event['LogicalResourceId']} ({event['ResourceType']}): {event['ResourceStatusReason']}"
            for event in reversed(events)
            if event["ResourceStatus"].endswith("FAILED") and event.get("ResourceStatusReason")
        )
    return ""


def _furnish(settings: _SamSettings, endpoint: str, simulator_url: str) -> Stack:
    """Add the routes that the emulator leaves out, fill the secrets, and describe the stack."""
    cloudformation = _client("cloudformation", endpoint, settings.region)
    described = cloudformation.describe_stacks(StackName=settings.stack_name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=settings.stack_name)
    resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
    physical = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}
    _set_tables_up(settings, endpoint, physical)
    _add_routes(settings, endpoint, physical, described["StackId"].split(":")[4])
    _lead_to_sockets(settings, endpoint, physical)
    _fill_secrets(settings, endpoint, outputs, simulator_url)
    api_url = _execute_api_url(endpoint, outputs.get("ApiUrl")) or ""
    return Stack(
        api_url=api_url,
        webhook_url=_function_url(endpoint, outputs.get("WebhookUrl")),
        websocket_url=_execute_api_url(endpoint.replace("http:", "ws:"), outputs.get("WebSocketUrl")),
        console_url=None,
        simulator_url=simulator_url,
        aws_endpoint_url=endpoint,
        region=settings.region,
        stack_name=settings.stack_name,
        buckets=_named(outputs, "BucketName"),
        tables=_named(outputs, "TableName"),
        state_machines=_named(outputs, "StateMachineArn"),
        functions={
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for resource in resources
            if resource["ResourceType"] == "AWS::Lambda::Function"
        },
        outputs=outputs,
        parameters={item["ParameterKey"]: item["ParameterValue"] for item in described.get("Parameters", [])},
    )


def _named(outputs: Mapping[str, str], suffix: str) -> dict[str, str]:
    """`{"JobsTableName": "x"}` with suffix `TableName` is `{"jobs": "x"}`."""
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "_", key.removesuffix(suffix)).lower(): value
        for key, value in outputs.items()
        if key.endswith(suffix) and key != suffix
    }


def _execute_api_url(endpoint: str, url: str | None) -> str | None:
    """`https://{api}.execute-api…/{stage}` by path, because names under localhost may not resolve."""
    if not url:
        return None
    parts = urlsplit(url)
    return f"{endpoint}/_aws/execute-api/{(parts.hostname or '').split('.')[0]}{parts.path.rstrip('/')}"


def _function_url(endpoint: str, url: str | None) -> str | None:
    """`https://{id}.lambda-url…/` by path."""
    return f"{endpoint}/_aws/lambda-url/{(urlsplit(url).hostname or '').split('.')[0]}" if url else None


def _kie_secret(simulator_url: str) -> str:
    """KIE's signing key, which on AWS a person copies from its settings page: ours tells it, another simulator is taken
    to use the key of the published test vector."""
    with suppress(httpx.HTTPError, ValueError, KeyError):
        return str(httpx.get(f"{simulator_url}/_sim/secrets", timeout=10, trust_env=False).json()["kie"])
    return KIE_TEST_KEY


def _fill_secrets(settings: _SamSettings, endpoint: str, outputs: Mapping[str, str], simulator_url: str) -> None:
    """The template makes the secrets without a value; on AWS a person fills them, here we do, anew for every run."""
    values = {"JwtSecretName": secrets.token_urlsafe(48)}
    for provider, prefix in KEY_PREFIXES.items():
        document: Json = {"api_keys": [f"{prefix}{secrets.token_hex(16)}"]}
        if provider == "kie":
            document["webhook_secret"] = _kie_secret(simulator_url)
        values[f"{provider.capitalize()}SecretName"] = json.dumps(document)
    client = _client("secretsmanager", endpoint, settings.region)
    for output, value in values.items():
        if name := outputs.get(output):
            client.put_secret_value(SecretId=name, SecretString=value)


def _set_tables_up(settings: _SamSettings, endpoint: str, physical: Mapping[str, str]) -> None:
    """The emulator makes tables without their time to live and their backups: turn on what the template says."""
    dynamodb = _client("dynamodb", endpoint, settings.region)
    for name, resource in _processed(settings, endpoint).items():
        if resource["Type"] != "AWS::DynamoDB::Table":
            continue
        if expiry := resource["Properties"].get("TimeToLiveSpecification"):
            dynamodb.update_time_to_live(TableName=physical[name], TimeToLiveSpecification=expiry)
        if backups := resource["Properties"].get("PointInTimeRecoverySpecification"):
            dynamodb.update_continuous_backups(TableName=physical[name], PointInTimeRecoverySpecification=backups)


def _processed(settings: _SamSettings, endpoint: str) -> Json:
    """The resources of the template after SAM's transformation."""
    cloudformation = _client("cloudformation", endpoint, settings.region)
    answer = cloudformation.get_template(StackName=settings.stack_name, TemplateStage="Processed")
    resources: Json = answer["TemplateBody"]["Resources"]
    return resources


def _add_routes(settings: _SamSettings, endpoint: str, physical: Mapping[str, str], account: str) -> None:
    """The emulator ignores the OpenAPI body of an HTTP API: make its integrations, routes and CORS rules one by one."""
    gateway = _client("apigatewayv2", endpoint, settings.region)
    for name, resource in _processed(settings, endpoint).items():
        body = resource.get("Properties", {}).get("Body")
        if (
            resource["Type"] != "AWS::ApiGatewayV2::Api"
            or not body
            or gateway.get_routes(ApiId=physical[name])["Items"]
        ):
            continue
        if cors := body.get("x-amazon-apigateway-cors"):
            gateway.update_api(
                ApiId=physical[name], CorsConfiguration={key[0].upper() + key[1:]: value for key, value in cors.items()}
            )
        for path, methods in body["paths"].items():
            for method, operation in methods.items():
                _add_route(
                    gateway,
                    physical[name],
                    _route_key(path, method),
                    operation["x-amazon-apigateway-integration"],
                    lambda logical: f"arn:aws:lambda:{settings.region}:{account}:function:{physical[logical]}",
                )


def _route_key(path: str, method: str) -> str:
    if path in ("$default", "/$default"):
        return "$default"
    return f"{'ANY' if method == 'x-amazon-apigateway-any-method' else method.upper()} {path}"


def _add_route(gateway: Any, api: str, key: str, integration: Json, arn: Callable[[str], str]) -> None:
    function = re.search(r"functions/\$\{(\w+)\.Arn\}/", json.dumps(integration["uri"]))
    if not function:
        raise CloudError(f"the route {key} leads to something that is not a function: {integration['uri']}")
    made = gateway.create_integration(
        ApiId=api,
        IntegrationType="AWS_PROXY",
        IntegrationUri=arn(function[1]),
        IntegrationMethod="POST",
        PayloadFormatVersion=integration.get("payloadFormatVersion", "2.0"),
    )
    gateway.create_route(ApiId=api, RouteKey=key, Target=f"integrations/{made['IntegrationId']}")


def _lead_to_sockets(settings: _SamSettings, endpoint: str, physical: Mapping[str, str]) -> None:
    """Functions know the WebSocket API by a name that leads nowhere here: tell them where the emulator has it."""
    functions = _client("lambda", endpoint, settings.region)
    for name, resource in _processed(settings, endpoint).items():
        if resource["Type"] != "AWS::Lambda::Function":
            continue
        variables = functions.get_function_configuration(FunctionName=physical[name])["Environment"]["Variables"]
        if url := variables.get("WEBSOCKET_URL"):
            variables["WEBSOCKET_URL"] = _execute_api_url(endpoint.replace("http:", "ws:"), url)
            functions.update_function_configuration(FunctionName=physical[name], Environment={"Variables": variables})


def _grant_demo_credits(stack: Stack, say: Say) -> None:
    """Through the API, as an administrator would."""
    say("granting demo credits to alice and bob")
    for account in ("alice", "bob"):
        url = f"{stack.api_url}/v1/admin/accounts/{account}/grants"
        headers = {"Authorization": f"Bearer {stack.tokens.get('admin', '')}", "Idempotency-Key": f"demo-{account}"}
        try:
            body = {"amount": DEMO_CREDITS, "reason": "demo"}
            answer = httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)
        except httpx.HTTPError as error:
            _check(stack.processes)
            raise CloudError(f"POST {url} failed: {error!r}") from error
        if not answer.is_success:
            raise CloudError(f"POST {url} answered {answer.status_code}: {answer.text[:500]}")
