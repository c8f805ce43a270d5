"""Ways to break groups, direct channels and erasing."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_SQL = "db/sql/migrations/0007_channels.sql"
_CLIENT = "tests/client/test_live.py::TestChannels"
_CHAT = "tests/acceptance/test_chat_and_smoke.py::TestChat"
_GROUPS = "tests/api/test_groups.py"
_NEW_CHANNELS = f"{_GROUPS}::TestNewChannels"

MUTATIONS_OF_CHANNELS = (
    Mutation(
        "two-direct-channels-a-pair",
        _SQL,
        "CREATE UNIQUE INDEX chat_channels_one_direct_a_pair",
        "CREATE UNIQUE INDEX chat_channels_one_direct_a_pair_made_by_one"
        " ON chat_channels (direct_low, direct_high, created_by) WHERE kind = 'direct';\n"
        "CREATE INDEX chat_channels_one_direct_a_pair",
        (_GROUPS,),
        "one direct channel a pair",
    ),
    Mutation(
        "membership-without-the-lock",
        _SQL,
        "    PERFORM c.id FROM chat_channels c WHERE c.id = p_channel_id FOR NO KEY UPDATE;\n"
        "    RETURN QUERY\n",
        "    RETURN QUERY\n",
        (_GROUPS,),
        "membership and the log change under one lock",
    ),
    Mutation(
        "any-member-adds",
        _SQL,
        "    ELSIF v_kind <> 'group' OR v_role <> 'owner' THEN\n",
        "    ELSIF v_kind <> 'group' THEN\n",
        (_GROUPS,),
        "only the owner takes somebody in",
    ),
    Mutation(
        "any-member-removes",
        _SQL,
        "    ELSIF v_kind <> 'group' OR (p_actor_id <> p_user_id AND v_role <> 'owner') THEN\n",
        "    ELSIF v_kind <> 'group' THEN\n",
        (_GROUPS,),
        "only the owner takes somebody out",
    ),
    Mutation(
        "a-group-without-an-owner",
        _SQL,
        "    IF v_removed_role = 'owner' THEN\n",
        "    IF false THEN\n",
        (_GROUPS,),
        "ownership passes on",
    ),
    Mutation(
        "the-youngest-inherits",
        _SQL,
        "            ORDER BY m.joined_at, m.user_id\n",
        "            ORDER BY m.joined_at DESC, m.user_id\n",
        (_GROUPS,),
        "the longest-standing member inherits",
    ),
    Mutation(
        "the-content-stays",
        _SQL,
        "    UPDATE chat_messages SET content = NULL WHERE channel_id = p_channel_id"
        " AND seq = p_seq;\n",
        "",
        (_GROUPS,),
        "erased is erased",
    ),
    Mutation(
        "anybody-erases",
        _SQL,
        "    ELSIF p_actor_id <> v_sender_id AND v_role IS DISTINCT FROM 'owner' THEN\n",
        "    ELSIF false THEN\n",
        (_GROUPS,),
        "one erases one's own, an owner everything",
    ),
    Mutation(
        "channels-without-number",
        "api/quotas.py",
        "    if refusal is not None:\n        raise refusal\n",
        "",
        (_NEW_CHANNELS,),
        "nobody makes channels by the thousand",
    ),
    Mutation(
        "a-direct-channel-that-exists-counts",
        "api/resources/channels.py",
        "            if channel_id is None:\n                refusal = _count_new_one(",
        "            if True:\n                refusal = _count_new_one(",
        (_NEW_CHANNELS,),
        "finding a direct channel makes none",
    ),
    Mutation(
        "the-last-one-is-refused-to-who-asked-too",
        "api/resources/channels.py",
        "                    if channel_id is None:\n                        return refusal\n",
        "                    return refusal\n",
        (_NEW_CHANNELS,),
        "one channel a pair, however many ask at once",
    ),
    Mutation(
        "the-client-keeps-the-old-name",
        "gatehouse_client/client.py",
        "        self.user = user\n        return user\n",
        "        return user\n",
        (_CLIENT,),
        "who is renamed is called so in the library too",
    ),
    Mutation(
        "a-name-breaks-out-of-the-url",
        "gatehouse_client/client.py",
        'query = urlencode({"display_name": display_name})',
        'query = f"display_name={display_name}"',
        (_CLIENT,),
        "names may hold what has a meaning in a URL",
    ),
    Mutation(
        "chat-guesses-who-is-meant",
        "scripts/chat.py",
        "    if len(people) != 1:\n",
        "    if not people:\n",
        (_CHAT,),
        "of several people of one name none is written to",
    ),
    Mutation(
        "accounts-copied-one-by-one",
        "api/resources/people.py",
        "    def on_get(self, req: Request, resp: Response, user_id: int) -> None:\n"
        "        count_lookup(self._services, req)\n",
        "    def on_get(self, req: Request, resp: Response, user_id: int) -> None:\n",
        (f"{_GROUPS}::TestPeople::test_nobody_copies_the_list_of_all_accounts",),
        "looking people up is limited",
    ),
    Mutation(
        "a-channel-opened-by-hand-in-silence",
        "db/sql/migrations/0014_statements_by_hand.sql",
        "          AND c.relname NOT IN (\n",
        "          AND c.relname NOT IN (\n              'chat_channels',\n",
        (
            "tests/db/test_psql_scripts.py"
            "::test_a_statement_by_hand_leaves_a_row_with_role_table_and_count",
        ),
        "statements by hand on channels leave their row",
    ),
    Mutation(
        "a-member-added-uncounted",
        "api/resources/members.py",
        "        count_lookup(self._services, req)\n",
        "",
        ("tests/api/test_groups.py::TestPeople::test_nobody_copies_the_list_of_all_accounts",),
        "whatever tells whether an account exists counts as looking it up",
    ),
)
