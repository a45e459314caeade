-- One page of a usage stream, and of it only what is one organization's: others' entries need not travel.
-- KEYS: stream. ARGV: the first entry id to look at, the organization, the size of a page.
-- Returns {the page's last entry id or empty, {fields of an entry, …}}.

local page = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[3])
local found = {}
for _, entry in ipairs(page) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'o' and fields[i + 1] == ARGV[2] then table.insert(found, fields) end
  end
end
return {#page > 0 and page[#page][1] or '', found}
