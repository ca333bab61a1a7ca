-- Past covariates as they arrived: one row per series, time and name that has a value.
SELECT s.name AS series, c.series_id, c.observed_at, n.name, c.value
FROM covariates c
JOIN series s ON s.series_id = c.series_id
JOIN covariate_names n ON n.name_id = c.name_id
WHERE c.value IS NOT NULL
