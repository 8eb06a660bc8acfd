* Encoding: UTF-8.
* Smooth ten years of the Nile's flow at Aswan.

/* !alpha when somebody defined it, else 0.3:   pspp hello.sps */
DEFINE !weight ()
!IF (!EVAL(!alpha) !EQ !CONCAT('!', 'alpha')) !THEN 0.3 !ELSE !alpha !IFEND
!ENDDEFINE.

DATA LIST FREE / year flow.
BEGIN DATA
1871 1120  1872 1160  1873  963  1874 1210  1875 1160
1876 1160  1877  813  1878 1230  1879 1370  1880 1140
END DATA.

COMPUTE alpha = !weight.
IF $CASENUM = 1 smooth = flow.
IF $CASENUM > 1 smooth = alpha * flow + (1 - alpha) * LAG(smooth).
VARIABLE LABELS flow 'Flow at Aswan (10^8 m3 a year)' smooth 'Smoothed flow'.
FORMATS year flow (F4.0) smooth (F8.1) alpha (F6.3).
SAVE OUTFILE='smooth.sav'.

SELECT IF year = 1880.
LIST.
