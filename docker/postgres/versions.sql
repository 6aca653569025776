-- What `cgr-migrator -exec=*set_versions` would write: without these rows the engine does not start.
-- The list is in its engine/version.go; tests/live/test_postgres_live.py starts the engine on this one.
INSERT INTO versions (item, version) VALUES
  ('CostDetails', 2), ('SessionSCosts', 3), ('CDRs', 2), ('TpRatingPlans', 1), ('TpFilters', 1),
  ('TpDestinationRates', 1), ('TpActionTriggers', 1), ('TpAccountActions', 1), ('TpActionPlans', 1),
  ('TpActions', 1), ('TpThresholds', 1), ('TpSuppliers', 1), ('TpStats', 1), ('TpSharedGroups', 1),
  ('TpRatingProfiles', 1), ('TpResources', 1), ('TpRates', 1), ('TpTiming', 1), ('TpResource', 1),
  ('TpDestinations', 1), ('TpRatingPlan', 1), ('TpRatingProfile', 1), ('TpChargers', 1),
  ('TpDispatchers', 1);
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
