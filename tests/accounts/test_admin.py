"""The admin pages of users, organizations, memberships and API sessions."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts import generation, playground, sessions, two_factor
from accounts.models import ApiKey, AuditEvent, Membership, Organization, Role, User, WebSession
from helixflow.lib import errors, redis
from tests import factories
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_superuser("root", "root@example.com", PASSWORD)


@pytest.fixture
def admin_client(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def generation_of(organization: Organization) -> int:
    return Organization.objects.values_list("generation", flat=True).get(id=organization.id)


def inline(prefix: str, *rows: dict[str, object], existing: int = 0) -> dict[str, object]:
    data: dict[str, object] = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": existing}
    for number, row in enumerate(rows):
        data |= {f"{prefix}-{number}-{name}": value for name, value in row.items()}
    return data


@pytest.mark.parametrize("model", ["user", "organization", "membership", "tokensession"])
def test_lists_open_search_and_turn_strangers_away(admin_client: Client, member: User, model: str) -> None:
    sessions.start(user=member)
    url = reverse(f"admin:accounts_{model}_changelist")
    page = admin_client.get(url, {"q": "member@example.com"}).content.decode()
    assert "member@example.com" in page or "Acme" in page
    assert Client().get(url).status_code == 302
    plain = Client()
    plain.force_login(member)
    assert plain.get(url).status_code == 302


def test_lists_take_the_same_number_of_queries_for_more_rows(
    admin_client: Client, organization: Organization, django_assert_max_num_queries
) -> None:
    for number in range(5):
        user = User.objects.create(username=f"u{number}", email=f"u{number}@example.com")
        Membership.objects.create(organization=organization, user=user)
        sessions_of = Organization.objects.create(name=f"Organization {number}")
        Membership.objects.create(organization=sessions_of, user=user)
    for model in ("user", "organization", "membership", "tokensession"):
        with django_assert_max_num_queries(8):
            assert admin_client.get(reverse(f"admin:accounts_{model}_changelist")).status_code == 200


def test_a_user_page_shows_nothing_of_the_password(admin_client: Client, member: User) -> None:
    page = admin_client.get(reverse("admin:accounts_user_change", args=[member.id])).content.decode()
    assert member.public_id in page
    assert "argon2" not in page
    assert member.password.split("$")[-1] not in page


def test_a_new_password_ends_the_api_sessions(admin_client: Client, member: User) -> None:
    session = sessions.start(user=member)
    url = reverse("admin:auth_user_password_change", args=[member.id])
    admin_client.post(url, {"password1": "another secret 1", "password2": "another secret 1"})
    member.refresh_from_db()
    session.refresh_from_db()
    assert member.check_password("another secret 1")
    assert session.ended_at is not None


def test_staff_change_their_password_on_the_profile_page(admin_client: Client) -> None:
    """The admin's own page would not end API sessions."""
    assert admin_client.get(reverse("admin:password_change")).headers["Location"] == "/dashboard/profile"
    assert admin_client.post("/admin/password_change/", {"old_password": PASSWORD}).status_code == 302


def test_support_staff_neither_give_rights_nor_touch_superusers(staff: User, member: User, outsider: User) -> None:
    support = User.objects.create_user("support", "support@example.com", PASSWORD, is_staff=True)
    support.user_permissions.set(Permission.objects.filter(codename__in=("view_user", "change_user")))
    client = Client()
    client.force_login(support)
    rights = {"is_active": "on", "is_staff": "on", "is_superuser": "on"}
    for user in (support, member):
        client.post(reverse("admin:accounts_user_change", args=[user.id]), rights | {"name": "Changed"})
        user.refresh_from_db()
        assert (user.name, user.is_superuser, user.is_staff) == ("Changed", False, user == support)
    new = {"password1": "another secret 1", "password2": "another secret 1"}
    client.post(reverse("admin:auth_user_password_change", args=[member.id]), new)
    assert client.post(reverse("admin:auth_user_password_change", args=[staff.id]), new).status_code == 403
    assert client.post(reverse("admin:accounts_user_change", args=[staff.id]), {"name": "x"}).status_code == 403
    assert User.objects.get(id=member.id).check_password("another secret 1")
    assert User.objects.get(id=staff.id).check_password(PASSWORD)


def test_users_and_organizations_are_neither_made_nor_deleted(admin_client: Client, member: User, organization) -> None:
    for model, row in (("user", member), ("organization", organization)):
        assert admin_client.get(reverse(f"admin:accounts_{model}_add")).status_code == 403
        assert admin_client.post(reverse(f"admin:accounts_{model}_delete", args=[row.id])).status_code == 403


def test_disable_and_enable_reach_every_gateway(
    admin_client: Client, organization: Organization, django_capture_on_commit_callbacks
) -> None:
    url = reverse("admin:accounts_organization_changelist")
    for action, disabled, expected in (("disable", True, 2), ("disable", True, 2), ("enable", False, 3)):
        with django_capture_on_commit_callbacks(execute=True):
            admin_client.post(url, {"action": action, "_selected_action": [str(organization.id)]})
        organization.refresh_from_db()
        assert (organization.disabled_at is not None) is disabled
        assert organization.generation == expected
        assert redis.sync_client().get(generation.redis_key(organization.id)) == str(expected).encode()


def test_renaming_an_organization_bumps_its_generation(admin_client: Client, organization: Organization) -> None:
    url = reverse("admin:accounts_organization_change", args=[organization.id])
    owner = organization.memberships.get()
    rows = {"id": owner.id, "organization": organization.id, "user": owner.user_id, "role": Role.OWNER}
    assert admin_client.post(url, {"name": "New"} | inline("memberships", rows, existing=1)).status_code == 302
    organization.refresh_from_db()
    assert (organization.name, organization.generation) == ("New", 2)


def test_the_response_cache_is_set_within_its_range(admin_client: Client, organization: Organization) -> None:
    url = reverse("admin:accounts_organization_change", args=[organization.id])
    owner = organization.memberships.get()
    rows = inline(
        "memberships",
        {"id": owner.id, "organization": organization.id, "user": owner.user_id, "role": Role.OWNER},
        existing=1,
    )
    for seconds, expected in (("86401", None), ("0", None), ("60", 60)):
        admin_client.post(url, {"name": "Acme", "cache_ttl_s": seconds} | rows)
        organization.refresh_from_db()
        assert organization.cache_ttl_s == expected
    assert organization.generation == 2


def test_memberships_changed_on_a_users_page_bump_their_organizations(
    admin_client: Client, organization: Organization, outsider: User
) -> None:
    own = outsider.memberships.get()
    factories.user("another", organization=own.organization, role=Role.OWNER)
    url = reverse("admin:accounts_user_change", args=[outsider.id])
    first = {"id": own.id, "user": outsider.id, "organization": own.organization_id, "role": Role.OWNER, "DELETE": "on"}
    second = {"user": outsider.id, "organization": organization.id, "role": Role.MEMBER}
    data = {"name": "", "is_active": "on"} | inline("memberships", first, second, existing=1)
    assert admin_client.post(url, data).status_code == 302
    assert outsider.memberships.get().organization == organization
    assert generation_of(organization) == 2
    assert generation_of(own.organization) == 2


def test_memberships_bump_on_their_own_pages(admin_client: Client, organization: Organization, member: User) -> None:
    membership = member.memberships.get()
    change = reverse("admin:accounts_membership_change", args=[membership.id])
    assert admin_client.post(change, {"role": Role.ADMIN}).status_code == 302
    assert generation_of(organization) == 2
    delete = reverse("admin:accounts_membership_changelist")
    chosen = {"action": "delete_selected", "_selected_action": [membership.id], "post": "yes"}
    assert admin_client.post(delete, chosen).status_code == 302
    assert not member.memberships.exists()
    assert generation_of(organization) == 3


def test_changes_of_memberships_are_in_the_audit_log_and_end_the_playgrounds_key(
    admin_client: Client, organization: Organization, member: User
) -> None:
    joining = factories.user("joining")
    playground.secret_of(member.memberships.get())
    owned, own = organization.memberships.get(role=Role.OWNER), member.memberships.get()
    page = reverse("admin:accounts_organization_change", args=[organization.id])
    stays = {"id": owned.id, "organization": organization.id, "user": owned.user_id, "role": Role.OWNER}
    goes = {"id": own.id, "organization": organization.id, "user": member.id, "role": Role.MEMBER, "DELETE": "on"}
    comes = {"organization": organization.id, "user": joining.id, "role": Role.MEMBER}
    data = {"name": "Acme"} | inline("memberships", stays, goes, comes, existing=2)
    assert admin_client.post(page, data).status_code == 302
    change = reverse("admin:accounts_membership_change", args=[joining.memberships.get().id])
    assert admin_client.post(change, {"role": Role.ADMIN}).status_code == 302
    events = AuditEvent.objects.filter(organization_id=organization.id, is_staff=True)
    assert sorted(events.values_list("action", "target")) == [
        ("member.added", joining.public_id),
        ("member.removed", member.public_id),
        ("member.role_changed", joining.public_id),
    ]
    assert ApiKey.objects.get(is_playground=True).revoked_at is not None


def test_the_last_owner_stays(admin_client: Client, organization: Organization, owner: User) -> None:
    membership = organization.memberships.get()
    change = reverse("admin:accounts_membership_change", args=[membership.id])
    assert admin_client.post(change, {"role": Role.MEMBER}).status_code == 400
    assert admin_client.post(change.replace("change", "delete"), {"post": "yes"}).status_code == 400
    assert organization.memberships.get().role == Role.OWNER
    assert not AuditEvent.objects.exists()


def test_settings_are_changed_by_the_rules_of_the_dashboard(admin_client: Client, organization: Organization) -> None:
    owned = organization.memberships.get()
    rows = {"id": owned.id, "organization": organization.id, "user": owned.user_id, "role": Role.OWNER}
    rows = inline("memberships", rows, existing=1)
    page = reverse("admin:accounts_organization_change", args=[organization.id])
    assert admin_client.post(page, {"name": "Two\nlines"} | rows).status_code == 400
    assert admin_client.post(page, {"name": "New"} | rows).status_code == 302
    assert AuditEvent.objects.get(is_staff=True).changes == {"name": ["Acme", "New"]}


def test_support_staff_borrow_no_rights_of_colleagues(owner: User, organization: Organization) -> None:
    helper, colleague = (
        User.objects.create_user(name, f"{name}@example.com", PASSWORD, is_staff=True) for name in ("helper", "boss")
    )
    helper.user_permissions.set(Permission.objects.filter(codename__in=("view_user", "change_user")))
    client = Client()
    client.force_login(helper)
    new = {"password1": "another secret 1", "password2": "another secret 1"}
    assert client.post(f"/admin/accounts/user/{colleague.pk}/password/", new).status_code == 403
    assert client.post(f"/admin/accounts/user/{owner.pk}/password/", new).status_code == 302
    assert User.objects.get(id=colleague.id).check_password(PASSWORD)
    with pytest.raises(errors.AuthorizationFailed):
        two_factor.remove(user=colleague, by=helper)


def test_a_stolen_admin_session_changes_neither_its_own_password_nor_second_factor(
    admin_client: Client, staff: User
) -> None:
    new = {"password1": "another secret 1", "password2": "another secret 1"}
    response = admin_client.post(f"/admin/accounts/user/{staff.pk}/password/", new)
    assert response["Location"] == "/dashboard/profile"
    assert User.objects.get(id=staff.id).check_password(PASSWORD)
    with pytest.raises(errors.AuthorizationFailed, match="asks for a code"):
        two_factor.remove(user=staff, by=staff)


def test_sessions_can_be_ended_and_nothing_else(admin_client: Client, member: User) -> None:
    session = sessions.start(user=member)
    url = reverse("admin:accounts_tokensession_changelist")
    admin_client.post(url, {"action": "end", "_selected_action": [str(session.id)]})
    session.refresh_from_db()
    assert session.ended_at is not None
    page = reverse("admin:accounts_tokensession_change", args=[session.id])
    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, {"ended_at": ""}).status_code == 403
    assert admin_client.get(reverse("admin:accounts_tokensession_add")).status_code == 403


def test_what_is_done_to_an_account_is_recorded_and_shown_to_its_owner(admin_client: Client, owner: User) -> None:
    factories.organization(owner=owner)
    session = sessions.start(user=owner)
    Client().force_login(owner)
    passwords = {"password1": "another secret 1", "password2": "another secret 1", "usable_password": "true"}
    assert admin_client.post(f"/admin/accounts/user/{owner.pk}/password/", passwords).status_code == 302
    assert not WebSession.objects.filter(user=owner).exists()
    session.refresh_from_db()
    assert session.ended_at is not None
    event = AuditEvent.objects.get(action="account.password_set")
    assert (event.target, event.changes) == (owner.public_id, {})
    browser = Client()
    browser.force_login(User.objects.get(id=owner.id))
    assert "set a new password for the account" in browser.get("/dashboard/security").content.decode()


def test_the_admins_login_is_that_of_the_dashboard(client: Client, staff: User) -> None:
    for response in (client.get("/admin/login/"), client.post("/admin/login/", {"username": "root", "password": "x"})):
        assert response["Location"] == "/login?next=/admin/"
    assert client.get("/admin/login/?next=/admin/accounts/user/")["Location"] == "/login?next=/admin/accounts/user/"
    assert client.get("/admin/login/?next=//evil.example")["Location"] == "/login?next=/admin/"
    assert client.get("/admin").headers["Location"] == "/admin/"
    assert client.post("/login?next=/admin/", {"username": staff.email, "password": PASSWORD})["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_who_is_logged_in_and_no_staff_is_told_so(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert client.get("/admin/", follow=True).status_code == 403


def test_a_superuser_made_on_the_command_line_has_a_dashboard_too(client: Client, staff: User) -> None:
    client.force_login(staff)
    assert client.get("/dashboard").status_code == 200
