"""The Terraform configuration: parsed, its references followed, its attributes held against IBM's own.

Terraform's provider names the attributes of Code Engine as IBM's SDK names its parameters; of the other resources the
provider's documentation (1.70 to 2.x) is written down here: what there is, what has to be there.
"""

import inspect
import re

import hcl2
import pytest
from ibm_code_engine_sdk.code_engine_v2 import CodeEngineV2

from gateway.settings import Settings
from infra.code_engine.simulator.limits import SIZES
from tests.conftest import ROOT

FOLDER = ROOT / "infra" / "code_engine" / "terraform"
PROVIDER = {
    "ibm_resource_instance": ("name service plan location", "resource_group_id tags parameters service_endpoints"),
    "ibm_cos_bucket": (
        "bucket_name resource_instance_id storage_class",
        "region_location cross_region_location single_site_location endpoint_type force_delete key_protect hard_quota",
    ),
    "ibm_resource_key": ("name role", "resource_instance_id parameters tags"),
    "ibm_iam_service_id": ("name", "description tags locked"),
    "ibm_iam_service_policy": ("roles", "iam_service_id iam_id resources resource_attributes account_management tags"),
    "ibm_iam_service_api_key": ("name iam_service_id", "description apikey locked store_value file"),
    "random_password": ("length", "special upper lower numeric min_lower min_upper min_numeric keepers"),
}
EXPORTED = {
    "ibm_code_engine_project": "project_id id crn",
    "ibm_code_engine_app": "endpoint app_id id name",
    "ibm_code_engine_job": "job_id id name",
    "ibm_code_engine_secret": "name id",
    "ibm_code_engine_config_map": "name id",
    "ibm_resource_instance": "id guid",
    "ibm_cos_bucket": "bucket_name id",
    "ibm_resource_key": "credentials_json id",
    "ibm_iam_service_id": "id iam_id",
    "ibm_iam_service_api_key": "apikey id",
    "random_password": "result",
    "ibm_resource_group": "id",
}
CREATES = {
    "ibm_code_engine_project": CodeEngineV2.create_project,
    "ibm_code_engine_app": CodeEngineV2.create_app,
    "ibm_code_engine_job": CodeEngineV2.create_job,
    "ibm_code_engine_secret": CodeEngineV2.create_secret,
    "ibm_code_engine_config_map": CodeEngineV2.create_config_map,
}


def plain(value):
    """Without the parser's quotes and marks of blocks."""
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


@pytest.fixture(scope="module")
def whole():
    found = {}
    for path in sorted(FOLDER.glob("*.tf")):
        with path.open() as file:
            for kind, blocks in plain(hcl2.load(file)).items():
                found.setdefault(kind, []).extend(blocks)
    return found


@pytest.fixture(scope="module")
def resources(whole):
    return {
        (kind, name): what
        for block in whole["resource"]
        for kind, named in block.items()
        for name, what in named.items()
    }


def test_every_attribute_is_one_that_ibm_has_and_none_is_missing(resources):
    for (kind, name), what in resources.items():
        if kind in CREATES:
            parameters = inspect.signature(CREATES[kind]).parameters
            known = set(parameters) - {"self", "kwargs"}
            needed = {one for one in known if parameters[one].default is inspect.Parameter.empty}
        else:
            needed, known = (set(words.split()) for words in PROVIDER[kind])
            known |= needed
        assert set(what) <= known, (kind, name)
        assert needed <= set(what), (kind, name)


def test_every_reference_names_something_that_is_there(whole, resources):
    text = "\n".join(path.read_text() for path in sorted(FOLDER.glob("*.tf")))
    variables = {name for block in whole["variable"] for name in block}
    assert set(re.findall(r"\bvar\.(\w+)", text)) == variables, "and every variable is used"
    for kind, name, attribute in re.findall(r"(?<!\.)\b((?:ibm|random)_\w+)\.(\w+)\.(\w+)", text):
        if not re.search(rf"data\.{kind}\.{name}", text):
            assert (kind, name) in resources
        assert attribute in EXPORTED[kind].split(), (kind, attribute)


def test_every_variable_is_described_and_what_can_be_wrong_is_checked(whole):
    unchecked = {"resource_group", "registry_password", "peer_tcp"}
    for block in whole["variable"]:
        for name, what in block.items():
            assert what["description"]
            assert ("validation" in what) is (name not in unchecked), name
            for check in what.get("validation", ()):
                assert check["error_message"].startswith(f"{name}: ")
            secret = name in ("registry_password", "database_url")
            assert bool(what.get("sensitive")) is secret, name


def test_the_gateway_goes_to_zero_and_what_it_is_given_are_its_settings(resources):
    app, job = resources["ibm_code_engine_app", "gateway"], resources["ibm_code_engine_job", "worker"]
    assert (app["scale_min_instances"], app["image_port"], job["scale_retry_limit"]) == (0, 8080, 0)
    assert (app["run_service_account"], job["run_service_account"]) == ("none", "none")
    assert {one["type"] for one in app["run_env_variables"]} == {"secret_full_reference", "config_map_full_reference"}
    for one in (app, job):
        assert float(one["scale_memory_limit"].rstrip("G")) in SIZES[one["scale_cpu_limit"]]
    given = {
        **resources["ibm_code_engine_secret", "gateway"]["data"],
        **resources["ibm_code_engine_config_map", "gateway"]["data"],
    }
    assert set(given) <= {f"FLAREGATE_{name.upper()}" for name in Settings.model_fields}
    script = (FOLDER.parent / "deploy.sh").read_text()
    assert set(re.findall(r"FLAREGATE_[A-Z0-9_]+(?==)", script)) - {"FLAREGATE_URL"} == set(given), (
        "the script gives the same"
    )


def test_what_is_secret_is_in_the_secret_and_not_in_the_config_map(resources):
    secrets = {"TOKEN", "SECRET", "DATABASE_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY", "CODE_ENGINE_KEY"}
    assert set(resources["ibm_code_engine_secret", "gateway"]["data"]) == {f"FLAREGATE_{name}" for name in secrets}
