-- An entry of the response cache. KEYS: the entry. Returns the sealed answer, or nothing.

return redis.call('GET', KEYS[1])
