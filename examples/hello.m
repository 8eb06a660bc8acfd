% Smooth ten years of the Nile's flow at Aswan:   octave-cli hello.m --alpha 0.5
alpha = 0.3;
args = argv();
for i = 1:numel(args) - 1
  if strcmp(args{i}, '--alpha')
    alpha = str2double(args{i + 1});
  end
end

flow = [1120 1160 963 1210 1160 1160 813 1230 1370 1140];   % 10^8 m3 a year, 1871 to 1880
smooth = filter(alpha, [1, alpha - 1], flow, (1 - alpha) * flow(1));

file = fopen('smooth.csv', 'w');
fprintf(file, 'year,flow,smooth\n');
fprintf(file, '%d,%d,%.6f\n', [1871:1880; flow; smooth]);
fclose(file);
printf('Octave: alpha %g, the Nile in 1880, smoothed: %.1f\n', alpha, smooth(end));
