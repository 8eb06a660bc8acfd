% A Weibull survival curve of one part of the trial, with a bootstrap interval.
% Runs in Octave and in MATLAB:   octave-cli score.m --draws 1000 --alpha 0.05
alpha = 0.05;
draws = 1000;
if exist('OCTAVE_VERSION', 'builtin'), args = argv(); else, args = {}; end
for i = 1:numel(args) - 1
  switch args{i}
    case '--alpha', alpha = str2double(args{i + 1});
    case '--draws', draws = str2double(args{i + 1});
  end
end
if ~(alpha > 0 && alpha < 1), error('alpha must be between 0 and 1'); end

data = dlmread('part.csv', ',', 1, 0);      % last_stage, years, death
stage = data(1, 1);
t = data(:, 2);
died = data(:, 3);
n = numel(t);

% How often each patient is drawn: the first column is the sample itself
rand('twister', 1986);
weight = [ones(n, 1), zeros(n, draws)];
for b = 1:draws
  weight(:, b + 1) = accumarray(ceil(n * rand(n, 1)), 1, [n, 1]);
end

% Maximum likelihood for all draws at once: Newton's method on the log of the shape
logt = log(t);
deaths = died' * weight;
mean_log = ((died .* logt)' * weight) ./ deaths;
k = ones(1, draws + 1);
for iteration = 1:50
  tk = exp(logt * k);                       % n by draws + 1
  s0 = sum(weight .* tk);
  s1 = sum(weight .* tk .* logt);
  s2 = sum(weight .* tk .* logt .^ 2);
  f = s1 ./ s0 - 1 ./ k - mean_log;
  slope = s2 ./ s0 - (s1 ./ s0) .^ 2 + 1 ./ k .^ 2;
  step = max(min(f ./ (slope .* k), 1), -1);
  k = k .* exp(-step);
  if max(abs(step)) < 1e-10, break, end
end
scale = (sum(weight .* exp(logt * k)) ./ deaths) .^ (1 ./ k);

% The curve and its percentile interval, every month for twelve years
years = (0:1 / 12:12)';
curves = exp(-(years ./ scale) .^ k);
sorted = sort(curves(:, 2:end), 2);
low = max(1, round(draws * alpha / 2));
high = min(draws, round(draws * (1 - alpha / 2)));
shapes = sort(k(2:end));

fprintf('stages up to %d: %d patients, %d deaths, %d iterations\n', stage, n, deaths(1), iteration);
fprintf('shape %.2f (%.2f to %.2f), scale %.1f years\n', k(1), shapes(low), shapes(high), scale(1));

file = fopen('score.csv', 'w');
fprintf(file, 'last_stage,shape,shape_lower,shape_upper,scale,years,survival,lower,upper\n');
for i = 1:numel(years)
  fprintf(file, '%d,%.6g,%.6g,%.6g,%.6g,%.6f,%.6f,%.6f,%.6f\n', stage, k(1), shapes(low), shapes(high), ...
    scale(1), years(i), curves(i, 1), sorted(i, low), sorted(i, high));
end
fclose(file);
