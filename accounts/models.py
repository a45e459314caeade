"""Who exists: users, organizations, memberships, invitations, sessions, API keys; and the audit log of who did what."""

from typing import ClassVar, Final, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models.functions import Upper
from django.utils import timezone

from helixflow.lib import ids

MAX_CACHE_TTL_S: Final = 86_400
MAX_CONTENTS_DAYS: Final = 365


class UserManager(BaseUserManager["User"]):
    def create_user(self, username: str, email: str, password: str | None = None, **fields: object) -> "User":
        user = self.model(username=username, email=email, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    @transaction.atomic
    def create_superuser(self, username: str, email: str, password: str | None = None) -> "User":
        """With an organization of their own, so that the dashboard is theirs as well as the admin site."""
        user = self.create_user(username, email, password, is_staff=True, is_superuser=True)
        organization = Organization.objects.create(name="Administrators")
        Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
        return user

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get_by_login(username or "")

    def get_by_login(self, login: str) -> "User":
        """The user of this username or e-mail address, whatever the case. Raises User.DoesNotExist.

        A username that holds an @ is always its owner's e-mail address (``accounts.services``),
        so the two can't name different people.
        """
        return self.get(**{"email__iexact" if "@" in login else "username__iexact": login})


class User(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    username = models.CharField(max_length=150)
    email = models.EmailField(max_length=254)
    name = models.CharField(max_length=100, blank=True)
    email_verified_at = models.DateTimeField(null=True, blank=True)
    is_staff = models.BooleanField("staff", default=False, help_text="May use the admin site.")
    is_active = models.BooleanField("active", default=True, help_text="Inactive users cannot log in.")
    date_joined = models.DateTimeField(default=timezone.now, editable=False)
    # Set: the account is deleted then, unless its owner changes their mind.
    deletion_due_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]

    class Meta:
        # On UPPER(): that is what Django's __iexact compares, so look-ups use these indexes.
        constraints: ClassVar = [
            models.UniqueConstraint(Upper("username"), name="user_username_unique"),
            models.UniqueConstraint(Upper("email"), name="user_email_unique"),
        ]

    def __str__(self) -> str:
        return self.username

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.USER, self.id)

    @property
    def is_verified(self) -> bool:
        return self.email_verified_at is not None

    def get_short_name(self) -> str:
        return self.name or self.username


class OrganizationQuerySet(models.QuerySet["Organization"]):
    def of(self, user: User) -> Self:
        return self.filter(memberships__user=user)


class Organization(models.Model):
    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=100)
    # Incremented with any change to keys, plan, membership or organization: accounts/generation.py.
    generation = models.PositiveBigIntegerField(default=1, editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True, help_text="Set: every key is refused with 403.")
    cache_ttl_s = models.PositiveIntegerField(
        "response cache",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_CACHE_TTL_S)],
        help_text="Seconds that answers to deterministic requests are stored for, encrypted; empty: nothing is stored.",
    )
    contents_days = models.PositiveSmallIntegerField(
        "stored contents",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_CONTENTS_DAYS)],
        help_text="Days that prompts and answers are stored for, encrypted; empty: nothing is stored.",
    )
    # What was stored before is forgotten at once, whenever it is deleted; None: nothing is stored.
    contents_since = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Set: the organization is deleted then, unless an owner changes their mind.
    deletion_due_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(cache_ttl_s=None) | models.Q(cache_ttl_s__range=(1, MAX_CACHE_TTL_S)),
                name="organization_cache_ttl_within_a_day",
            ),
            models.CheckConstraint(
                condition=models.Q(contents_days=None) | models.Q(contents_days__range=(1, MAX_CONTENTS_DAYS)),
                name="organization_contents_days_within_a_year",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.ORGANIZATION, self.id)


class Role(models.TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


class Membership(models.Model):
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization}"

    @property
    def manages_keys(self) -> bool:
        return self.role in {Role.OWNER, Role.ADMIN}


class Invitation(models.Model):
    """To an organization, sent to ``email``: the link in the mail holds a token of which only the digest is kept."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="invitations")
    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    invited_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                Upper("email"),
                condition=models.Q(accepted_at=None, withdrawn_at=None),
                name="invitation_open_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.organization}"

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.INVITATION, self.id)


class WebSession(AbstractBaseSession):
    """A browser's session: Django's, with whose it is and where it comes from, so that people can see and end theirs.

    ``accounts.web_sessions`` stores it; ``user`` is that of the login, and nobody's before one.
    """

    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="web_sessions")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(default=timezone.now)
    address = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)

    class Meta(AbstractBaseSession.Meta):
        abstract = False
        db_table = "accounts_websession"

    @classmethod
    def get_session_store_class(cls) -> type[SessionBase]:
        from accounts.web_sessions import SessionStore  # it asks for this model

        return SessionStore


class TokenSession(models.Model):
    """A login through the API. Every JWT names its session and dies with it."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="token_sessions")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    # The refresh token in force, and the one it replaced, by their `jti`.
    refresh_jti = models.UUIDField()
    previous_refresh_jti = models.UUIDField(null=True, blank=True)
    rotated_at = models.DateTimeField(null=True, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"API session of {self.user}"


class Environment(models.TextChoices):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def of(self, organization: Organization) -> Self:
        """Those that its people made: the playground's are the platform's own business (``accounts.playground``)."""
        return self.filter(organization=organization, is_playground=False)

    def usable(self) -> Self:
        now = timezone.now()
        return self.filter(revoked_at=None).filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now))


class ApiKey(models.Model):
    """Stored as a digest; ``accounts.keys`` knows the format, ``accounts.services`` makes, rotates and revokes."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="api_keys")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    name = models.CharField(max_length=100)
    environment = models.CharField(max_length=12, choices=Environment, default=Environment.DEVELOPMENT)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    hint = models.CharField(max_length=20, editable=False, help_text="hflow_ + first 4 … last 4")
    allowed_models = ArrayField(
        models.CharField(max_length=200), null=True, blank=True, help_text="The models it may call; empty: all."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    rotated_to = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="+", editable=False)
    # Made by the platform for ``created_by``'s calls from the playground: nobody ever sees its secret.
    is_playground = models.BooleanField(default=False, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "created_by"],
                condition=models.Q(is_playground=True, revoked_at=None),
                name="apikey_one_playground",
            ),
        ]
        indexes: ClassVar = [
            # The key list of an organization, newest first, paged by id.
            models.Index(fields=["organization", "-id"], name="apikey_organization_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})" if self.hint else self.name

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.API_KEY, self.id)

    @property
    def status(self) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return "expired"
        return "active"


class AuditEvent(models.Model):
    """Who changed what of access, limits or money, when and from where. Written by ``accounts.audit`` and append-only:
    a trigger refuses updates and deletions (``accounts/migrations``). No foreign keys: it outlives what it names.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization_id = models.UUIDField(null=True)  # None: about a user's account alone
    user_id = models.UUIDField(null=True)  # who did it; None: the platform
    actor = models.CharField(max_length=254)  # as they were called then
    is_staff = models.BooleanField(default=False)  # done by an operator, as support
    action = models.CharField(max_length=60)  # noun.verb, such as api_key.created
    target = models.CharField(max_length=60, blank=True)  # public id
    summary = models.CharField(max_length=300)  # a sentence's end: created the API key “CI”
    changes = models.JSONField(default=dict)  # field → [before, after]; never a secret
    address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes: ClassVar = [
            # An organization's, or a user's own, newest first, paged by id.
            models.Index(fields=["organization_id", "-id"], name="audit_organization_newest"),
            models.Index(fields=["user_id", "-id"], name="audit_user_newest"),
            # What others did to an account: support, above all.
            models.Index(
                fields=["target", "-id"], name="audit_account_newest", condition=models.Q(organization_id=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action}"

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.AUDIT_EVENT, self.id)


class Export(models.Model):
    """Everything of an organization as one file, made by a worker and kept for some days."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        READY = "ready"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="exports")
    requested_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    rows = models.PositiveBigIntegerField(default=0)  # written so far
    file = models.CharField(max_length=200, blank=True)  # its name in the default storage
    size_bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    touched_at = models.DateTimeField(default=timezone.now)  # by the worker, as it goes
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"export of {self.organization}"

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.EXPORT, self.id)


from accounts.two_factor_models import RecoveryCode, TwoFactor  # noqa: E402,F401  # more rows, of a file of their own
