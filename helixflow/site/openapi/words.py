"""What each field of a request is for, in words; and what its serializer cannot say of its type.

A body's field without words fails tests/helixflow/test_openapi.py.
"""

from typing import Any, Final

Words = dict[str, dict[str, str]]

_SAMPLING: Final = {
    "temperature": "How daring the choice of each token is. Low for facts, higher for ideas.",
    "top_p": "Draw only from the likeliest tokens that together have this probability. Change this or temperature, "
    "not both.",
    "frequency_penalty": "Above zero: the more often a token has come, the less likely it comes again.",
    "presence_penalty": "Above zero: tokens that have come at all are less likely to come again.",
    "stop": "Where to stop: a text, or up to four. The sequence itself is left out.",
    "stream": "Send the answer as it is written.",
    "stream_options": "Only with stream.",
    "seed": "With the same seed and request, models that support it try to answer the same.",
    "logit_bias": "Nudges to tokens, by their numbers: −100 bans one, 100 all but forces it.",
    "user": "A stable name for your end user. Not an e-mail address, please.",
}

FIELDS: Final[Words] = {
    "ChatRequest": _SAMPLING
    | {
        "model": "The model's name, as GET /models lists it.",
        "messages": "The conversation so far, oldest first. Each message has a role, its content, and optionally a "
        "name. Content is a string, or a list of parts for models that take more than text.",
        "max_tokens": "The most tokens the answer may have.",
        "max_completion_tokens": "The newer name of max_tokens; wins where both are given.",
        "n": "How many answers to give.",
        "logprobs": "Tell the probability of each token.",
        "top_logprobs": "And of that many of the likeliest others. Needs logprobs.",
        "tools": "Functions the model may ask you to call.",
        "tool_choice": "Whether it must call one, and which.",
        "parallel_tool_calls": "Whether it may ask for several calls at once.",
        "functions": "The older form of tools.",
        "function_call": "The older form of tool_choice.",
        "response_format": "json_object for any JSON, json_schema for JSON of your schema.",
        "reasoning_effort": "How long a reasoning model thinks.",
        "verbosity": "How much it says.",
        "modalities": "What the answer is to be made of.",
        "audio": "The voice and format of spoken answers.",
        "prediction": "Text that much of the answer is likely to repeat, which makes it faster.",
        "moderation": "A check of what goes in and comes out, where the model's provider has one.",
        "web_search_options": "For models that search the web.",
        "service_tier": "The provider's lane: faster, cheaper or as usual.",
        "store": "Whether the provider may keep the answer.",
        "metadata": "Up to 16 notes of your own.",
        "safety_identifier": "A stable name for your end user, hashed, for the provider's safety checks.",
        "prompt_cache_key": "Helps the provider find the cached start of similar prompts.",
        "prompt_cache_options": "How the provider's prompt cache is used.",
        "prompt_cache_retention": "How long the provider keeps a cached prompt.",
    },
    "CompletionRequest": _SAMPLING
    | {
        "model": "The model's name. One that only chats is an invalid_request.",
        "prompt": "A text, or the numbers of its tokens, or a list of up to 2,048 of either. Each has its own "
        "answers, in the order of the prompts.",
        "max_tokens": "The most tokens each answer may have.",
        "n": "How many answers to give to each prompt.",
        "best_of": "Of how many candidates to choose the n. The best of more than n can't be streamed.",
        "echo": "Repeat the prompt before the answer.",
        "suffix": "What comes after the text to be written, for models that fill gaps.",
        "logprobs": "Tell the probabilities of that many of the likeliest tokens.",
    },
    "EmbeddingRequest": {
        "model": "The model's name. Vectors of different models can't be compared, so no fallback is asked.",
        "input": "A text, or the numbers of its tokens, or a list of up to 2,048 of either. None may be empty.",
        "encoding_format": "Vectors as numbers, or as base64 of little-endian 32-bit floats, about a third as long.",
        "dimensions": "How long each vector is to be, for models that can choose.",
        "user": _SAMPLING["user"],
    },
    "StreamOptions": {
        "include_usage": "Adds a last chunk with the token counts.",
        "include_obfuscation": "Passed on to the model.",
    },
    "Registration": {
        "username": "What you log in with. It may be your e-mail address; case doesn't matter.",
        "email": "We send a link there to verify it.",
        "password": "At least 8 characters, and not one of those everybody uses.",
    },
    "Credentials": {
        "username": "Your username or e-mail address.",
        "password": "Your password.",
        "otp": "With two-factor on: the six digits of your app, or a recovery code.",
    },
    "Refresh": {"refresh_token": "The newest one you have."},
    "Logout": {"refresh_token": "In place of an access token in the header."},
    "ApiKeyFields": {
        "name": "So that you know it again.",
        "environment": "Where it is used.",
        "expires_at": "From when on it is refused. Without it, never.",
        "models": "The only models it may call. Without it, all.",
    },
    "RotationFields": {"grace_days": "For how many days the old key still works."},
    "LimitFields": {
        "requests_per_minute": "In a calendar minute.",
        "requests_per_month": "In a calendar month.",
        "monthly_budget": "In the currency of your plan.",
    },
    "CapFields": {
        "monthly_budget": "Once requests have cost as much, further ones get insufficient_quota. Those under way "
        "still end, so it can be overrun by what they cost.",
        "max_parallel": "How many requests may be under way at once.",
    },
    "Settings": {
        "name": "1 to 100 characters.",
        "cache_ttl_s": "For how many seconds, up to a day, answers are cached, encrypted. null, the default, for none.",
        "contents_days": "For how many days prompts and answers are kept. null, the default, keeps none.",
    },
    "Transfer": {"user_id": "Who is to be the owner."},
    "Deletion": {"name": "The organization's.", "password": "Yours."},
    "NewOrganization": {"name": "1 to 100 characters."},
    "Role": {"role": "The new one."},
    "Removal": {"revoke_keys": "Whether the keys that they made end with them."},
    "InvitationFields": {"email": "Where the invitation is sent.", "role": "What they will be."},
    "BatchCreation": {
        "requests": "Up to 1,000 bodies, as they would go to the endpoint one by one. Each may have a custom_id beside "
        "its fields, request-1, request-2 and so on if you don't say. None may stream.",
        "input_file_id": "In place of requests: a file of up to 50,000 lines and 200 MB.",
        "endpoint": "Where each request goes. Needed with input_file_id.",
        "completion_window": "Only this: what has not been done by then fails with batch_expired.",
        "metadata": "Up to 16 notes of your own: names of at most 64 characters, texts of at most 512.",
    },
    "FileUpload": {
        "purpose": "What the file is for.",
        "file": "JSON Lines in UTF-8: on each line custom_id, method (POST), url (the batch's endpoint) and body.",
        "expires_after[anchor]": "Only with expires_after[seconds].",
        "expires_after[seconds]": "When it is deleted, from an hour on. After 30 days if you don't say.",
    },
    "EndpointFields": {
        "url": "An https address on port 443, 80, 8080 or 8443 that everybody on the internet can reach. Redirects "
        "are not followed.",
        "events": "What it is told of.",
        "description": "At most 200 characters.",
        "api_keys": "Only events of these keys, and those that name no key. Without it, of all.",
        "models": "Only events of these models, and those that name no model. Without it, of all.",
        "enabled": "A disabled endpoint is sent nothing but test events.",
    },
    "TestFields": {"event": "The first that the endpoint is told of, if you don't say."},
    "ResendFields": {"since": "From when on they were created.", "until": "Until now, if you don't say."},
}

_EVENT: Final = {
    "enum": ["completion.created", "completion.failed", "rate_limit.exceeded", "quota.low", "batch.completed"]
}
_ROLE: Final = {"enum": ["owner", "admin", "member"]}
_AMOUNT: Final = {"type": ["string", "null"], "pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$", "examples": ["25.00"]}

TYPES: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "ChatRequest": {
        "max_tokens": {"default": 150},
        "temperature": {"default": 1},
        "top_p": {"default": 1},
        "frequency_penalty": {"default": 0},
        "presence_penalty": {"default": 0},
        "stream": {"default": False},
        "n": {"default": 1},
    },
    "CompletionRequest": {
        "max_tokens": {"default": 16},
        "temperature": {"default": 1},
        "top_p": {"default": 1},
        "stream": {"default": False},
        "echo": {"default": False},
        "n": {"default": 1},
    },
    "EmbeddingRequest": {"encoding_format": {"default": "float"}},
    "ApiKeyFields": {"environment": {"enum": ["development", "staging", "production"], "default": "development"}},
    "BatchCreation": {
        "requests": {"items": {"type": "object"}, "minItems": 1, "maxItems": 1000},
        "endpoint": {"default": "/v1/chat/completions"},
        "completion_window": {"default": "24h"},
    },
    "LimitFields": {"monthly_budget": _AMOUNT},
    "CapFields": {"monthly_budget": _AMOUNT},
    "Settings": {"cache_ttl_s": {"minimum": 1, "maximum": 86400}, "contents_days": {"minimum": 1}},
    "EndpointFields": {
        "url": {"format": "uri"},
        "events": {"items": {"type": "string"} | _EVENT},
        "enabled": {"default": True},
    },
    "TestFields": {"event": _EVENT},
    "Role": {"role": _ROLE},
    "InvitationFields": {"role": _ROLE},
}

# Of the query and of the path, whatever the operation.
PARAMETERS: Final[dict[str, str]] = {
    "limit": "How many to a page.",
    "cursor": "The next_cursor of the page before.",
    "status": "Only those that ended so: success, failed, or an HTTP status such as 503. 499: the caller left.",
    "api_key": "Only what this key used.",
    "model": "Only what was asked of this model.",
    "error_code": "Only those that ended with this error.",
    "since": "From when on: a time, or a date for its midnight in UTC.",
    "until": "Until when.",
    "end_user": "Only those of this user of yours, as the request's user named it.",
    "start": "The last 30 days, if you don't say.",
    "end": "Now, if you don't say.",
    "bucket": "The length of a step, in UTC.",
    "group_by": "One series for each.",
    "event": "Only of this type.",
    "state": "Only in this state.",
    "after": "The last_id of the page before.",
    "order": "By their creation: desc, newest first, or asc.",
    "purpose": "Only files for this: batch, or batch_output.",
    "batch_id": "The batch's id: batch_…",
    "file_id": "The file's id: file-…",
    "key_id": "The key's id: key_…",
    "endpoint_id": "The endpoint's id: whe_…",
    "delivery_id": "The delivery's id: whd_…",
    "actor": "Only what somebody with this e-mail address did.",
    "group": "Only changes of this kind.",
    "user_id": "The user's id: user-…",
    "invitation_id": "The invitation's id: inv_…",
    "request_id": "The request's id, req_…, or that of its completion.",
    "name": "The model's name.",
}
PARAMETER_TYPES: Final[dict[str, dict[str, Any]]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    "state": {"type": "string", "enum": ["pending", "succeeded", "failed", "cancelled"]},
    "event": {"type": "string"} | _EVENT,
}
OF_OPERATION: Final[dict[tuple[str, str], tuple[str, dict[str, Any]]]] = {
    ("listApiKeys", "status"): (
        "Whether to leave out revoked and expired keys.",
        {"type": "string", "enum": ["active", "all"], "default": "all"},
    ),
    ("listBatchResults", "limit"): (
        "How many to a page.",
        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    ),
    ("listFiles", "limit"): (
        "How many to a page. It has 1,000 at most.",
        {"type": "integer", "minimum": 1, "maximum": 10000, "default": 10000},
    ),
    ("listModels", "status"): (
        "With a key that an operator made: how the model's deployments are doing.",
        {"type": "boolean", "default": False},
    ),
    ("getModel", "status"): (
        "With a key that an operator made: how its deployments are doing.",
        {"type": "boolean", "default": False},
    ),
}
# What stands for a part of the path in an example that is to be run.
VARIABLES: Final = {
    "batch_id": "$BATCH_ID",
    "file_id": "$FILE_ID",
    "key_id": "$KEY_ID",
    "endpoint_id": "$WEBHOOK_ID",
    "delivery_id": "$DELIVERY_ID",
    "request_id": "$REQUEST_ID",
    "user_id": "$USER_ID",
    "invitation_id": "$INVITATION_ID",
    "name": "gpt-3.5-turbo",
}
