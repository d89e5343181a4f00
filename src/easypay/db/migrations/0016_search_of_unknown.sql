-- The fold reads which days are sealed only for what lies before the newest of them.
--
-- Everything here is added, and a gateway of the version before goes on working beside it.

-- Serves the fold: nothing that is newer than this belongs to a day that is added up.
CREATE INDEX statistics_seals_newest ON statistics_seals (days_until);

-- The reader of a gateway that knew no statistics. None is left: whoever reads the feed now is
-- 'payments', which had moved this mark along.
DELETE FROM feed_readers WHERE name = 'search';
