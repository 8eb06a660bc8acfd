* Encoding: UTF-8.
* How did the two arms fare, and how many died per 100 years of observation?

/* The level of the intervals: !alpha when somebody defined it, else 0.05 */
DEFINE !level ()
!IF (!EVAL(!alpha) !EQ !CONCAT('!', 'alpha')) !THEN 0.05 !ELSE !alpha !IFEND
!ENDDEFINE.

GET FILE='clean.sav'.
SELECT IF NOT MISSING(arm).
VARIABLE LABELS
  arm 'Treatment'
  outcome 'Outcome'
  group 'Histologic stage'.

CROSSTABS
  /TABLES=outcome BY arm
  /STATISTICS=CHISQ
  /CELLS=COUNT COLUMN.

* Deaths per 100 patient-years, with the exact Poisson interval.
AGGREGATE OUTFILE=*
  /BREAK=group arm
  /patients=N
  /deaths=SUM(death)
  /pyears=SUM(years).
COMPUTE rate = 100 * deaths / pyears.
COMPUTE lower = 0.
IF deaths > 0 lower = 100 * IDF.CHISQ(!level / 2, 2 * deaths) / 2 / pyears.
COMPUTE upper = 100 * IDF.CHISQ(1 - !level / 2, 2 * deaths + 2) / 2 / pyears.
STRING stage treatment (A16).
COMPUTE stage = VALUELABEL(group).
COMPUTE treatment = VALUELABEL(arm).
VARIABLE LABELS
  stage 'Histologic stage'
  treatment 'Treatment'
  patients 'Patients'
  deaths 'Deaths'
  pyears 'Patient-years'
  rate 'Deaths per 100 patient-years'
  lower 'Lower bound'
  upper 'Upper bound'.
FORMATS patients deaths (F5.0) pyears rate lower upper (F8.1).
LIST VARIABLES=stage treatment patients deaths pyears rate lower upper.
SAVE TRANSLATE /OUTFILE='rates.csv' /TYPE=CSV /REPLACE /FIELDNAMES /CELLS=VALUES
  /KEEP=stage treatment patients deaths pyears rate lower upper.
