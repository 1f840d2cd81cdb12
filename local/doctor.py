"""`make doctor`: is everything there that a deployed stack needs, locally or on AWS (STACK=name)? One line per check.

It changes nothing. Each provider is asked something that costs nothing and that it answers to good keys only; where it
has no such question, it gets a request to generate without anything in it, which a good key gets refused as invalid.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
import httpx
from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import CloudError, Stack
from local.up import state_dir

type Json = dict[str, Any]

TIMEOUT_S = 20
SHORTEST_HMAC_SECRET = 32
NOBODYS_ID = "00000000-0000-4000-8000-000000000000"
SETTLED = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"}


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, and what is to be done about it if it is wrong."""

    what: str
    remedy: str | None = None


@dataclass(frozen=True)
class Site:
    """A deployed stack and how it is reached. `client` makes a boto3 client; the URLs have no slash at their end."""

    name: str
    client: Callable[[str], Any]
    api_url: str
    webhook_url: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    status: str

    @cached_property
    def resources(self) -> dict[str, list[tuple[str, str]]]:
        """By type: logical and physical names."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.name)
        found: dict[str, list[tuple[str, str]]] = {}
        for page in pages:
            for each in page["StackResourceSummaries"]:
                names = (each["LogicalResourceId"], each.get("PhysicalResourceId", ""))
                found.setdefault(each["ResourceType"], []).append(names)
        return found

    @cached_property
    def template(self) -> Json:
        """The template's resources, after SAM's transformation."""
        answer = self.client("cloudformation").get_template(StackName=self.name, TemplateStage="Processed")
        body = answer["TemplateBody"]
        document: Json = json.loads(body) if isinstance(body, str) else body
        return document["Resources"]  # type: ignore[no-any-return]

    def physical(self, logical: str) -> str:
        """The physical name of a resource."""
        return next(name for named in self.resources.values() for known, name in named if known == logical)


@dataclass(frozen=True)
class Question:
    """What a provider answers to good keys only: `path` under its base URL. A `body` makes it a POST."""

    path: str
    header: str = "authorization"
    scheme: str = "Bearer "
    body: Json | None = None


QUESTIONS = {
    "replicate": Question("/predictions"),
    "kie": Question("/api/v1/chat/credit"),
    "fal": Question(f"/fal-ai/flux/requests/{NOBODYS_ID}/status", scheme="Key "),
    "openai": Question("/audio/speech", body={}),
    "elevenlabs": Question("/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb", header="xi-api-key", scheme="", body={}),
    "postiz": Question("/is-connected", scheme=""),
    "pexels": Question("/v1/search?query=sea&per_page=1", scheme=""),
    "gemini": Question("/models/gemini-2.5-flash:generateContent", header="x-goog-api-key", scheme="", body={}),
}


def main(stack_name: str | None) -> int:
    """Print what was found; the exit code, 1 if anything is wrong."""
    try:
        site = on_aws(stack_name) if stack_name else locally(Stack.load(state_dir()))
        wrong = 0
        for finding in examine(site):
            wrong += finding.remedy is not None
            print(f"ok     {finding.what}" if finding.remedy is None else f"WRONG  {finding.what}: {finding.remedy}")
    except (CloudError, ClientError, BotoCoreError) as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 1
    print(f"\n{wrong} wrong" if wrong else "\neverything is as it should be")
    return 1 if wrong else 0


def locally(stack: Stack) -> Site:
    """The local cloud that is up."""
    return _site(stack.stack_name, stack.client, api_url=stack.api_url, webhook_url=stack.webhook_url)


def on_aws(name: str) -> Site:
    """A stack of the account and Region that the environment names."""
    return _site(name, boto3.session.Session().client)


def _site(name: str, client: Any, *, api_url: str | None = None, webhook_url: str | None = None) -> Site:
    described = client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}
    return Site(
        name=name,
        client=client,
        api_url=(api_url or outputs["ApiUrl"]).rstrip("/"),
        webhook_url=(webhook_url or outputs["WebhookUrl"]).rstrip("/"),
        outputs=outputs,
        parameters={each["ParameterKey"]: each["ParameterValue"] for each in described.get("Parameters", [])},
        status=described["StackStatus"],
    )


def examine(site: Site) -> Iterator[Finding]:
    """Every check in turn. One that cannot be made is a finding, too, and no reason to leave out the others."""
    for check in CHECKS:
        try:
            yield from check(site)
        except (ClientError, BotoCoreError, httpx.HTTPError) as error:
            what = (check.__doc__ or check.__name__).rstrip(".")
            yield Finding(what, f"this could not be checked ({error})")


def check_stack(site: Site) -> Iterator[Finding]:
    """The stack is complete."""
    what = f"stack {site.name} is {site.status}"
    yield Finding(what, None if site.status in SETTLED else "deploy it again, and read its events for the reason")


def check_secrets(site: Site) -> Iterator[Finding]:
    """Every secret has a value of the right shape, and providers accept the keys in it."""
    for logical, name in site.resources.get("AWS::SecretsManager::Secret", []):
        label = f"secret {name.split(':')[-1]}" if name.startswith("arn:") else f"secret {name}"
        provider = logical.removesuffix("Secret").lower()
        flaw = _flaw(site, provider, name)
        yield Finding(f"{label} is well-formed" if flaw is None else label, flaw)
        if flaw is None and provider in QUESTIONS:
            yield from _ask(site, provider, json.loads(_value(site, name))["api_keys"])


def _value(site: Site, name: str) -> str:
    """What the secret holds; nothing while nobody has filled it."""
    try:
        return str(site.client("secretsmanager").get_secret_value(SecretId=name).get("SecretString", ""))
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return ""


def _flaw(site: Site, provider: str, name: str) -> str | None:
    """What is wrong with a secret's value; never the value itself."""
    value = _value(site, name).strip()
    if provider == "jwt" and site.parameters.get("JwksUrl"):
        return None
    if not value:
        return "it has no value; put one (docs/DEPLOY.md says of what shape)"
    if provider == "jwt":
        return None if len(value) >= SHORTEST_HMAC_SECRET else f"it needs {SHORTEST_HMAC_SECRET} characters or more"
    if provider not in QUESTIONS:
        return None
    try:
        document = json.loads(value)
    except json.JSONDecodeError:
        return 'it is not JSON; it must be like {"api_keys": ["…"]}'
    keys = document.get("api_keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key.strip() for key in keys):
        return 'it names no keys; it must be like {"api_keys": ["…"]}'
    if provider == "kie" and not document.get("webhook_secret"):
        return 'it has no "webhook_secret" (the HMAC key of KIE\'s settings page), so webhooks cannot be verified'
    return None


def _ask(site: Site, provider: str, keys: list[str]) -> Iterator[Finding]:
    question = QUESTIONS[provider]
    base = site.parameters[f"{provider.capitalize()}BaseUrl"].rstrip("/")
    for number, key in enumerate(keys, start=1):
        what = f"{provider} accepts key {number} of {len(keys)}"
        try:
            answer = httpx.request(
                "GET" if question.body is None else "POST",
                base + question.path,
                headers={question.header: question.scheme + key.strip()},
                json=question.body,
                timeout=TIMEOUT_S,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            yield Finding(what, f"{base} does not answer ({type(error).__name__})")
        else:
            yield Finding(what, _verdict(answer))


def _verdict(answer: httpx.Response) -> str | None:
    """What an answer says of the key that asked."""
    # KIE answers 200 to everybody and says the rest in the body; Gemini answers 400 to a key that it does not know.
    said = (
        answer.json().get("code") if "json" in answer.headers.get("content-type", "") and _is_object(answer) else None
    )
    if answer.status_code in (401, 403) or said in (401, 403) or "API_KEY_INVALID" in answer.text:
        return "it is refused; make a new one at the provider and put it into the secret"
    if answer.status_code == 402 or said == 402:
        return "there is no money left on the provider's account"
    if answer.status_code == 429 or answer.status_code >= 500:
        return f"the provider answers {answer.status_code}; try again later"
    return None


def _is_object(answer: httpx.Response) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False


def check_doors(site: Site) -> Iterator[Finding]:
    """The API answers, and neither it nor the webhooks let anybody in who has not shown who he is."""
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as http:
        for what, method, url, expected in (
            ("API answers", "GET", f"{site.api_url}/v1/health", 200),
            ("API is closed without a token", "GET", f"{site.api_url}/v1/credits", 401),
            ("webhooks are closed without a signature", "POST", f"{site.webhook_url}/replicate", 401),
        ):
            status = http.request(method, url, json={} if method == "POST" else None).status_code
            remedy = f"{method} {url} answers {status} instead of {expected}; look into the log {_log_group(site)}"
            yield Finding(what, None if status == expected else remedy)


def _log_group(site: Site) -> str:
    return f"/atelier/{site.name}"


def check_schedules(site: Site) -> Iterator[Finding]:
    """Every schedule is enabled."""
    scheduler = site.client("scheduler")
    for logical, name in site.resources.get("AWS::Scheduler::Schedule", []):
        state = scheduler.get_schedule(Name=name.rpartition("/")[2] or name)["State"]
        remedy = f"it is {state}; enable it (aws scheduler update-schedule), or deploy again"
        yield Finding(f"schedule {logical} is enabled", None if state == "ENABLED" else remedy)


def check_alarms(site: Site) -> Iterator[Finding]:
    """Every alarm is there and tells the topic."""
    topic = site.physical("AlarmTopic")
    alarms = site.resources.get("AWS::CloudWatch::Alarm", [])
    names = [name for _, name in alarms]
    pages = site.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNames=names)
    found = {alarm["AlarmName"]: alarm for page in pages for alarm in page["MetricAlarms"]}
    for logical, name in alarms:
        wired = name in found and topic in found[name]["AlarmActions"] and found[name]["ActionsEnabled"]
        remedy = "it tells nobody; enable its actions, or deploy again" if name in found else "it is gone; deploy again"
        yield Finding(f"alarm {logical} tells the topic", None if wired else remedy)
    if site.parameters.get("AlarmEmail"):
        pages = site.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        arns = [each["SubscriptionArn"] for page in pages for each in page["Subscriptions"]]
        confirmed = any(arn.startswith("arn:") for arn in arns)
        yield Finding(
            "somebody reads the alarms", None if confirmed else "confirm the subscription in the e-mail of SNS"
        )


def check_tables(site: Site) -> Iterator[Finding]:
    """Every table can be restored to any second of 35 days, and expires what it should."""
    dynamodb = site.client("dynamodb")
    for logical, name in site.resources.get("AWS::DynamoDB::Table", []):
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        state = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
        yield Finding(
            f"table {logical} can be restored", None if state == "ENABLED" else "turn point-in-time recovery on again"
        )
        wanted = site.template[logical]["Properties"].get("TimeToLiveSpecification")
        if wanted:
            found = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
            on = found["TimeToLiveStatus"].startswith("ENABL") and found.get("AttributeName") == wanted["AttributeName"]
            remedy = f"turn its time to live on again, for {wanted['AttributeName']}"
            yield Finding(f"table {logical} expires items", None if on else remedy)


def check_sources(site: Site) -> Iterator[Finding]:
    """Every stream and queue reaches its function."""
    functions = site.client("lambda")
    for logical, name in site.resources.get("AWS::Lambda::EventSourceMapping", []):
        found = functions.get_event_source_mapping(UUID=name)
        remedy = f"it is {found['State']}; enable it (aws lambda update-event-source-mapping), or deploy again"
        yield Finding(f"source {logical} is enabled", None if found["State"] == "Enabled" else remedy)


def check_dead_letters(site: Site) -> Iterator[Finding]:
    """Nothing lies undelivered."""
    queues = site.client("sqs")
    for logical, url in site.resources.get("AWS::SQS::Queue", []):
        if not logical.endswith("DeadLetters"):
            continue
        wanted = ["ApproximateNumberOfMessages"]
        attributes = queues.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)["Attributes"]
        number = int(attributes["ApproximateNumberOfMessages"])
        remedy = f"{number} messages lie in it; see {logical}Alarm in docs/OPERATIONS.md"
        yield Finding(f"{logical} is empty", remedy if number else None)


CHECKS: tuple[Callable[[Site], Iterator[Finding]], ...] = (
    check_stack,
    check_doors,
    check_secrets,
    check_schedules,
    check_sources,
    check_dead_letters,
    check_tables,
    check_alarms,
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else None))
