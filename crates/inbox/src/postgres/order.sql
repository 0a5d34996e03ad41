-- Whether a parked stage of the sink holds up later ones of its line, and the index that finds those. The sinks that do it have an
-- index of their own: nothing is to be read from its beginning to its end.
ALTER TABLE sink ADD COLUMN strict BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX sink_strict ON sink (id) WHERE strict;
CREATE INDEX stage_held ON stage (kind, line, seq) WHERE state = 'parked';
