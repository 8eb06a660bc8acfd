/* Smooth ten years of the Nile's flow at Aswan; the weight is &alpha when somebody set it, else 0.3 */
options noserror;  /* no warning where nobody did */

data nile;
  input year flow;
  datalines;
1871 1120
1872 1160
1873 963
1874 1210
1875 1160
1876 1160
1877 813
1878 1230
1879 1370
1880 1140
;
run;

data smoothed;
  set nile;
  retain smooth;
  weight = coalesce(input("&alpha", best12.), 0.3);
  if _n_ = 1 then smooth = flow;
  else smooth = weight * flow + (1 - weight) * smooth;
run;

proc export data=smoothed outfile="smooth.csv" dbms=csv;  /* in SAS add REPLACE to write over an old file */
run;

data last;
  set smoothed;
  if year = 1880;
run;

proc print data=last;
run;
