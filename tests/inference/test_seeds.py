from decimal import Decimal

import pytest

from billing import prices
from billing.models import Price
from helixflow.lib import redis
from inference import catalogue
from inference.models import Deployment, Model, Provider
from inference.providers import KINDS, adapter_for
from inference.seed_models import EXAMPLES, HOMES, MODELS, SMOLLM2
from inference.seeds import Access, Embedded, seed_catalogue

pytestmark = pytest.mark.django_db

HERE = Embedded("http://127.0.0.1:20001/v1", "key of the embedded model")
KEY = "sk-of-openai"
OPENAI = {"openai": Access(KEY)}
OPENAI_MODELS = [seed for seed in MODELS if "openai" in seed.at]
STAND_IN = ["embedded/smollm2-135m-instruct"]


def upstreams(model: str) -> list[str]:
    """What answers for ``model``, as the gateway sees it."""
    known = catalogue.read().models.get(model)
    return [deployment.name for deployment in known.deployments] if known else []


def test_without_a_key_the_examples_answer_from_the_embedded_model():
    seed_catalogue(embedded=HERE, accesses={})
    assert set(catalogue.read().models) == {"smollm2-135m-instruct", *EXAMPLES}
    assert upstreams("gpt-4") == upstreams("gpt-3.5-turbo") == upstreams("smollm2-135m-instruct") == STAND_IN


def test_the_examples_are_as_the_reference_prints_them():
    seed_catalogue(embedded=HERE, accesses={})
    models = catalogue.read().models
    assert (models["gpt-3.5-turbo"].owned_by, models["gpt-3.5-turbo"].created) == ("openai", 1677610602)
    assert (models["gpt-4"].owned_by, models["gpt-4"].created) == ("openai", 1687882411)


def test_with_a_key_every_model_of_openai_goes_there():
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    for seed in OPENAI_MODELS:
        assert upstreams(seed.name) == [f"openai/{seed.name}"]
    assert upstreams("smollm2-135m-instruct") == STAND_IN
    assert Provider.objects.get(name="openai").credential == KEY


def test_the_key_can_come_and_go():
    seed_catalogue(embedded=HERE, accesses={})
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert upstreams("gpt-4") == ["openai/gpt-4"]
    seed_catalogue(embedded=HERE, accesses={})
    assert upstreams("gpt-4") == STAND_IN
    assert upstreams("gpt-4o") == []
    assert Provider.objects.get(name="openai").credential == ""
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert upstreams("gpt-4") == ["openai/gpt-4"]


def test_a_changed_key_and_address_are_followed():
    seed_catalogue(embedded=HERE, accesses={"openai": Access("sk-old")})
    seed_catalogue(embedded=Embedded("http://127.0.0.1:20002/v1", "another"), accesses={"openai": Access("sk-new")})
    embedded, openai = Provider.objects.order_by("name")
    assert (embedded.base_url, embedded.credential) == ("http://127.0.0.1:20002/v1", "another")
    assert openai.credential == "sk-new"


def test_keys_are_sealed_at_rest():
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert not [provider for provider in Provider.objects.all() if provider.credential in provider.sealed_credential]


def test_repeating_changes_nothing():
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    tables = (Provider, Model, Deployment)
    before = [list(table.objects.order_by("id").values()) for table in tables]
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert [list(table.objects.order_by("id").values()) for table in tables] == before


def test_what_an_operator_changed_stays():
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    Provider.objects.filter(name="openai").update(base_url="https://proxy.example.com/v1")
    Model.objects.filter(name="gpt-4o").update(enabled=False, description="Not here.")
    Deployment.objects.filter(name="openai/gpt-5").update(enabled=False, weight=7)
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert Provider.objects.get(name="openai").base_url == "https://proxy.example.com/v1"
    assert upstreams("gpt-4o") == upstreams("gpt-5") == []
    assert Model.objects.get(name="gpt-4o").description == "Not here."
    assert Deployment.objects.get(name="openai/gpt-5").weight == 7


def test_the_key_of_the_environment_is_not_sent_to_an_address_that_somebody_entered():
    """Who may change a provider must enter a credential with an address, and could wait for a restart otherwise."""
    seed_catalogue(embedded=None, accesses=OPENAI)
    moved = Provider.objects.get(name="openai")
    moved.base_url, moved.credential = "https://elsewhere.example.com/v1", "theirs"
    moved.save()
    for key in (KEY, "sk-2"):
        seed_catalogue(embedded=None, accesses={"openai": Access(key)})
        moved.refresh_from_db()
        assert (moved.base_url, moved.credential) == ("https://elsewhere.example.com/v1", "theirs")
    moved.base_url = ""
    moved.save()
    seed_catalogue(embedded=None, accesses={"openai": Access("sk-2")})
    assert Provider.objects.get(name="openai").credential == "sk-2"


def test_a_provider_that_an_operator_switched_off_stays_off():
    seed_catalogue(embedded=None, accesses=OPENAI)
    Provider.objects.filter(name="openai").update(enabled=False)
    seed_catalogue(embedded=None, accesses=OPENAI)
    assert upstreams("gpt-4o") == []


def test_an_operators_own_provider_of_that_name_is_left_alone():
    own = Provider(name="openai", base_url="https://eu.example.com/v1")
    own.credential = "theirs"
    own.save()
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    seed_catalogue(embedded=HERE, accesses={})
    own.refresh_from_db()
    assert (own.base_url, own.credential, own.enabled) == ("https://eu.example.com/v1", "theirs", True)
    assert not own.deployments.exists()


def test_an_operators_own_deployment_replaces_the_stand_in():
    seed_catalogue(embedded=HERE, accesses={})
    own = Provider.objects.create(name="azure", base_url="https://azure.example.com/v1")
    model = Model.objects.get(name="gpt-4")
    Deployment.objects.create(name="azure/gpt-4", model=model, provider=own, upstream_model="gpt-4")
    seed_catalogue(embedded=HERE, accesses={})
    assert upstreams("gpt-4") == ["azure/gpt-4"]
    assert upstreams("gpt-3.5-turbo") == STAND_IN


def test_without_an_embedded_model_none_of_it_stays():
    seed_catalogue(embedded=HERE, accesses={})
    seed_catalogue(embedded=None, accesses={})
    assert catalogue.read().models == {}
    assert not Provider.objects.exists()


def test_it_tells_the_web_processes(django_capture_on_commit_callbacks):
    assert redis.sync_client().get(catalogue.VERSION_KEY) is None
    with django_capture_on_commit_callbacks(execute=True):
        seed_catalogue(embedded=HERE, accesses={})
    assert redis.sync_client().get(catalogue.VERSION_KEY) is not None


def test_models_that_go_to_openai_have_its_list_prices():
    seed_catalogue(embedded=HERE, accesses={})
    assert not Price.objects.exists()
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert {price.model for price in Price.objects.all()} == {model.name for model in OPENAI_MODELS}
    price = Price.objects.get(model="gpt-4o")
    assert (price.input, price.cached_input, price.output) == (Decimal("2.5"), Decimal("1.25"), Decimal(10))
    assert price.currency == "USD"


def test_prices_are_seeded_once_and_the_operator_s_stay():
    own = prices.add(model="gpt-4o", input=Decimal(1), output=Decimal(2))
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert Price.objects.get(model="gpt-4o") == own
    assert Price.objects.count() == len(OPENAI_MODELS)


def test_dollars_are_not_taken_for_another_currency(settings):
    settings.CURRENCY = "EUR"
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert not Price.objects.exists()


# More than one provider

ALL = {name: Access(f"sk-of-{name}", region="us-east-1" if name == "bedrock" else "") for name in HOMES}
ALL["azure"] = Access("sk-of-azure", base_url="https://ours.openai.azure.com")


def test_every_provider_that_is_connected_serves_its_models():
    seed_catalogue(embedded=None, accesses=ALL)
    for seed in MODELS:
        rows = Deployment.objects.filter(model__name=seed.name)
        assert {row.name: row.upstream_model for row in rows} == {
            f"{home}/{seed.name}": upstream for home, upstream in seed.at.items()
        }
    assert {home for seed in MODELS for home in seed.at} <= HOMES.keys()


def test_open_models_are_shared_by_all_who_serve_them():
    seed_catalogue(embedded=None, accesses={"groq": Access("a"), "cerebras": Access("b")})
    assert upstreams("gpt-oss-120b") == ["cerebras/gpt-oss-120b", "groq/gpt-oss-120b"]
    seed_catalogue(embedded=None, accesses={"groq": Access("a")})
    assert upstreams("gpt-oss-120b") == ["groq/gpt-oss-120b"]


@pytest.mark.parametrize("name", HOMES)
def test_a_seeded_provider_has_settings_that_work(name):
    seed_catalogue(embedded=None, accesses={name: ALL[name]})
    provider = Provider.objects.get()
    assert (provider.name, provider.kind, provider.credential) == (name, HOMES[name].kind, f"sk-of-{name}")
    assert (provider.base_url, provider.region) == (ALL[name].base_url, ALL[name].region)
    if provider.kind in KINDS:
        assert adapter_for(catalogue.account_of(provider)).origin.host


def test_an_address_and_a_region_follow_the_environment():
    seed_catalogue(embedded=None, accesses=ALL)
    moved = {"azure": Access("k", base_url="https://new.openai.azure.com"), "bedrock": Access("k", region="eu-west-1")}
    seed_catalogue(embedded=None, accesses=moved)
    assert Provider.objects.get(name="azure").base_url == "https://new.openai.azure.com"
    assert Provider.objects.get(name="bedrock").region == "eu-west-1"
    assert set(Provider.objects.filter(enabled=True).values_list("name", flat=True)) == {"azure", "bedrock"}


def test_names_are_unique_and_each_model_is_somewhere():
    assert len({seed.name for seed in MODELS}) == len(MODELS)
    assert all(seed.at for seed in MODELS)
    assert {"gpt-3.5-turbo", "gpt-4"} <= {seed.name for seed in MODELS}


# The embedded model in another's place


def length(model: str) -> int | None:
    return Model.objects.get(name=model).context_length


def test_a_stand_in_has_the_length_of_the_model_that_answers():
    seed_catalogue(embedded=HERE, accesses={})
    assert length("gpt-3.5-turbo") == SMOLLM2.context_length
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert length("gpt-3.5-turbo") == 16_385
    seed_catalogue(embedded=HERE, accesses={})
    assert length("gpt-3.5-turbo") == SMOLLM2.context_length


def test_an_operator_s_length_stays():
    seed_catalogue(embedded=HERE, accesses={})
    Model.objects.filter(name="gpt-3.5-turbo").update(context_length=4096)
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert length("gpt-3.5-turbo") == 4096


def newest_price(model: str) -> Decimal | None:
    return Price.objects.filter(model=model).order_by("-starts_at")[0].output


def test_a_stand_in_is_free_even_after_the_real_one_was_there():
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert newest_price("gpt-4") == 60
    seed_catalogue(embedded=HERE, accesses={})
    assert newest_price("gpt-4") == 0
    assert newest_price("gpt-4o") == 10
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert newest_price("gpt-4") == 60
    versions = Price.objects.filter(model="gpt-4").count()
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    assert Price.objects.filter(model="gpt-4").count() == versions == 3


def test_an_operator_s_price_of_a_stand_in_stays():
    prices.add(model="gpt-4", input=Decimal(1), output=Decimal(2))
    seed_catalogue(embedded=HERE, accesses=OPENAI)
    seed_catalogue(embedded=HERE, accesses={})
    assert newest_price("gpt-4") == 2
