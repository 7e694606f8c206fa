"""Stands for IBM Cloud's command line: takes only the commands and options that IBM's reference has, and keeps a record.

Its state is a JSON file beside it. It knows the commands that infra/code_engine uses, each with its number of plain
arguments and its options; one that is followed by `!` must be there, one with `=` has a value.
"""

import json
import os
import sys
from pathlib import Path

KNOWN = {
    "target": (0, "-r= -g="),
    "ce project get": (0, "--name=! --output="),
    "ce project create": (0, "--name=! --tag="),
    "ce project select": (0, "--name= --id="),
    "ce project delete": (0, "--name=! --force --hard"),
    "ce secret get": (0, "--name=! --output= --decode"),
    "ce secret create": (0, "--name=! --format= --from-env-file= --from-file= --from-literal= --server= --username= --password= --password-from-file= --email="),
    "ce secret update": (0, "--name=! --from-env-file= --from-file= --from-literal= --server= --username= --password= --password-from-file= --email= --rm="),
    "ce configmap get": (0, "--name=! --output="),
    "ce configmap create": (0, "--name=! --from-env-file= --from-file= --from-literal="),
    "ce configmap update": (0, "--name=! --from-env-file= --from-file= --from-literal= --rm="),
    "ce job get": (0, "--name=! --output="),
    "ce job create": (0, "--name=! --image=! --registry-secret= --service-account= --cpu= --memory= --ephemeral-storage= --retrylimit= --maxexecutiontime= --env= --env-from-secret= --env-from-configmap= --array-indices= --instances= --force --quiet"),
    "ce job update": (0, "--name=! --image= --registry-secret= --service-account= --cpu= --memory= --ephemeral-storage= --retrylimit= --maxexecutiontime= --env= --env-from-secret= --env-from-configmap= --array-indices= --instances= --force --quiet"),
    "ce application get": (0, "--name=! --output="),
    "ce application create": (0, "--name=! --image=! --registry-secret= --service-account= --port= --cpu= --memory= --ephemeral-storage= --min-scale= --max-scale= --concurrency= --request-timeout= --scale-down-delay= --visibility= --env= --env-from-secret= --env-from-configmap= --wait --no-wait --force --quiet"),
    "ce application update": (0, "--name=! --image= --registry-secret= --service-account= --port= --cpu= --memory= --ephemeral-storage= --min-scale= --max-scale= --concurrency= --request-timeout= --scale-down-delay= --visibility= --env= --env-from-secret= --env-from-configmap= --wait --no-wait --force --quiet"),
    "resource service-instance": (1, "--output= --id"),
    "resource service-instance-create": (4, "-g= --parameters="),
    "resource service-instance-delete": (1, "--recursive --force"),
    "resource service-key": (1, "--output= --id"),
    "resource service-key-create": (2, "--instance-id= --instance-name= --parameters= --force"),
    "resource service-key-delete": (1, "--force"),
    "cos bucket-head": (0, "--bucket=! --region= --output="),
    "cos bucket-create": (0, "--bucket=! --ibm-service-instance-id= --class= --region= --output="),
    "iam service-id": (1, "--output= --uuid"),
    "iam service-id-create": (1, "--description= --lock --output="),
    "iam service-id-delete": (1, "--force"),
    "iam service-policies": (1, "--output="),
    "iam service-policy-create": (1, "--roles= --service-name= --service-instance= --region= --resource-type= --resource= --resource-group-name= --force --output="),
    "iam service-api-key-create": (2, "--description= --file= --force --output="),
}  # fmt: skip
STATE = Path(os.environ["IBMCLOUD_STATE"])


def fail(message, code=1):
    sys.stderr.write(f"FAILED\n{message}\n")
    sys.exit(code)


def parse(words):
    """The command, its plain arguments and its options; what the reference does not have ends it."""
    command = next((" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in KNOWN), None)
    if command is None:
        fail(f"{' '.join(words[:3])!r} is no command", 2)
    count, text = KNOWN[command]
    options = {one.rstrip("!").rstrip("="): one for one in text.split()}
    rest, plain, given = list(words[len(command.split()) :]), [], {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            plain.append(word)
        elif word not in options:
            fail(f"{command}: {word} is no option", 2)
        elif "=" in options[word] and not rest:
            fail(f"{command}: {word} needs a value", 2)
        else:
            given[word] = rest.pop(0) if "=" in options[word] else True
    missing = [name for name, how in options.items() if how.endswith("!") and name not in given]
    if missing or len(plain) != count:
        fail(f"{command}: missing {missing}, or {plain} are not {count} arguments", 2)
    return command, plain, given


def key_values(path):
    return dict(line.split("=", 1) for line in Path(path).read_text().splitlines())


class Cloud:
    def __init__(self):
        self.state = json.loads(STATE.read_text()) if STATE.exists() else {"calls": [], "things": {}, "project": None}

    def save(self):
        STATE.write_text(json.dumps(self.state))

    def get(self, kind, name):
        found = self.state["things"].get(f"{kind}/{name}")
        if found is None:
            fail(f"{kind} {name} was not found")
        return found

    def create(self, kind, name, **what):
        if f"{kind}/{name}" in self.state["things"]:
            fail(f"{kind} {name} exists")
        self.state["things"][f"{kind}/{name}"] = what
        return what

    def run(self, command, plain, given):
        area, _, verb = command.rpartition(" ")
        if command == "target":
            return None
        if area.startswith("ce "):
            return self.code_engine(area.removeprefix("ce "), verb, given)
        if area == "cos":
            how = self.get if verb == "bucket-head" else self.create
            how("bucket", given["--bucket"])
            return None
        return self.resource(verb, plain, given)

    def code_engine(self, kind, verb, given):
        name = given.get("--name")
        if kind == "project":
            return self.project(verb, name, given)
        if self.state["project"] is None:
            fail("no project is selected")
        if verb == "get":
            found = self.get(kind, name)
            return (
                "https://flaregate.0123.eu-de.codeengine.appdomain.cloud" if given.get("--output") == "url" else found
            )
        what = self.described(given)
        if verb == "create":
            self.create(kind, name, **what)
        else:
            self.get(kind, name).update(what)
        return None

    def described(self, given):
        """What a thing is to be: files read, which are for nobody else, and what it refers to is there."""
        what = {option: value for option, value in given.items() if option != "--name"}
        for option, read in (("--from-env-file", key_values), ("--password-from-file", Path.read_text)):
            if option in what:
                path = Path(what.pop(option))
                if path.stat().st_mode & 0o077:
                    fail(f"others may read {path}")
                what["data"] = read(path)
        for option, kind in (("--env-from-secret", "secret"), ("--env-from-configmap", "configmap"), ("--registry-secret", "secret")):  # fmt: skip
            if option in what:
                self.get(kind, what[option])
        return what

    def project(self, verb, name, given):
        if verb == "create":
            self.create("project", name, guid="11111111-2222-3333-4444-555555555555")
            self.state["project"] = name
        elif verb == "select":
            self.get("project", name)
            self.state["project"] = name
        elif verb == "delete":
            self.get("project", name)
            if "--force" not in given:
                fail("nobody is there to confirm")
            kept = ("bucket/", "instance/", "key/", "service/", "policy/", "apikey/")
            self.state["things"] = {k: v for k, v in self.state["things"].items() if k.startswith(kept)}
            self.state["project"] = None
        else:
            return self.get("project", name)
        return None

    def resource(self, verb, plain, given):
        name = plain[0]
        kinds = {"service-instance": "instance", "service-key": "key", "service-id": "service"}
        for prefix, kind in kinds.items():
            if verb == prefix:
                return [self.get(kind, name)]
            if verb == f"{prefix}-delete":
                self.get(kind, name)
                if "--force" not in given:
                    fail("nobody is there to confirm")
                del self.state["things"][f"{kind}/{name}"]
                self.state["things"].pop(f"policy/{name}", None)
                return None
        return getattr(self, verb.replace("-", "_"))(plain, given)

    def service_instance_create(self, plain, given):
        crn = f"crn:v1:bluemix:public:{plain[1]}:global:a/0:{plain[0]}::"
        self.create("instance", plain[0], crn=crn, plan=plain[2])

    def service_key_create(self, plain, given):
        hmac = {"access_key_id": "hmac-id", "secret_access_key": "canary-hmac"}
        asked = json.loads(given.get("--parameters", "{}")).get("HMAC") is True
        self.create("key", plain[0], credentials={"cos_hmac_keys": hmac} if asked else {}, role=plain[1])

    def service_id_create(self, plain, given):
        self.create("service", plain[0])

    def service_policies(self, plain, given):
        return [value for key, value in self.state["things"].items() if key == f"policy/{plain[0]}"]

    def service_policy_create(self, plain, given):
        self.get("service", plain[0])
        self.create("policy", plain[0], **given)

    def service_api_key_create(self, plain, given):
        self.get("service", plain[1])
        self.state["things"][f"apikey/{plain[0]}"] = {}
        return {"apikey": "canary-api-key"}


def main():
    command, plain, given = parse(sys.argv[1:])
    cloud = Cloud()
    cloud.state["calls"].append(sys.argv[1:])
    cloud.save()
    if len(cloud.state["calls"]) == int(os.environ.get("IBMCLOUD_FAILS_AT", "0")):
        fail("the network is down")
    said = cloud.run(command, plain, given)
    cloud.save()
    if said is not None:
        sys.stdout.write(said if isinstance(said, str) else json.dumps(said))


if __name__ == "__main__":
    main()
