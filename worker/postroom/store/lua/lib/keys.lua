-- The names of all keys. No other file of the library spells a key, and docs/data-model.md describes each.

local P = constants.KEY_PREFIX

local M = {
  api_keys = P .. 'api:keys',
  api_used = P .. 'api:used',
  callbacks = P .. 'callbacks',
  config = P .. 'config',
  doubts = P .. 'doubts',
  events = P .. 'events',
  expiring = P .. 'expiring',
  expiring_told = P .. 'credentials:told',
  faults = P .. 'faults',
  files_to_remove = P .. 'files',
  held_alone = P .. 'held:alone',
  holds = P .. 'holds',
  idempotency = P .. 'keys',
  jobs = P .. 'jobs',
  journal = P .. 'journal',
  journal_consumers = P .. 'journal:consumers',
  journal_dropped = P .. 'journal:dropped',
  journal_written = P .. 'journal:written',
  lanes = P .. 'lanes',
  last_pass = P .. 'passed',
  leases = P .. 'leases',
  moving = P .. 'moving',
  patience = P .. 'patience',
  probes = P .. 'probes',
  releasing = P .. 'releasing',
  results = P .. 'results',
  rounds = P .. 'rounds',
  seq = P .. 'seq',
  unreachable = P .. 'unreachable',
  shares = P .. 'shares',
  slots = P .. 'hands',
  slots_slow = P .. 'hands:slow',
  slots_unknown = P .. 'hands:unknown',
  slots_waiting = P .. 'hands:waiting',
  staged = P .. 'staged',
  waiting = P .. 'waiting',
  workers = P .. 'workers',
  workers_differ = P .. 'workers:differ',
  workers_facts = P .. 'workers:facts',
}

function M.job(id) return P .. 'job:' .. id end
function M.mail(id) return P .. 'mail:' .. id end
function M.attempts(id) return P .. 'attempts:' .. id end
function M.mirrors(id) return P .. 'mirrors:' .. id end
function M.files(name) return P .. 'files:' .. name end
function M.shared(number) return P .. 'shared:' .. number end

function M.status(status) return P .. 'status:' .. status end
function M.batch(batch) return P .. 'batch:' .. batch end
function M.recipient(token) return P .. 'to:' .. token end
-- An index by the name that Python gives it.
function M.index(name) return P .. name end

-- lane:<lane>, app:<app> and held:<batch>
function M.state(scope, name) return P .. scope .. ':' .. name end
function M.lane(lane) return P .. 'lane:' .. lane end
function M.ready(class, lane) return P .. 'ready:' .. class .. ':' .. lane end
function M.later(lane) return P .. 'later:' .. lane end
function M.claims(lane) return P .. 'claims:' .. lane end
function M.unmarked(lane) return P .. 'unmarked:' .. lane end
function M.marks(lane) return P .. 'marks:' .. lane end
function M.recipients(lane) return P .. 'recipients:' .. lane end
function M.minutes(lane) return P .. 'minutes:' .. lane end
function M.uploaded(lane) return P .. 'uploaded:' .. lane end

function M.waiting_for_app(app) return P .. 'app:' .. app .. ':waiting' end

function M.held_batch(batch) return P .. 'held:' .. batch end
function M.aside(batch) return P .. 'aside:' .. batch end

function M.next_round_claim(token) return P .. 'chained:' .. token end
function M.api_spent(key_id) return P .. 'api:spent:' .. key_id end
-- Celery's own key, in the form of its Redis backend.
function M.celery_result(task_id) return 'celery-task-meta-' .. task_id end

return M
