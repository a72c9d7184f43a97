// The buttons of the page: steps, zoom and axis.

import { element } from '../words/formatting.js';

/** Steps a second that can be chosen for playing. */
const SPEEDS = [1, 2, 5, 10, 30];

const SPEED_AT_START = 5;

/** The groups of the step buttons: the word between its buttons, and the buttons before and after it. */
const STEP_GROUPS = [
  { word: 'entry', before: [['first-entry', '|‹', 'First entry (Home)'], ['previous-entry', '‹', 'Previous entry (←)']],
    after: [['next-entry', '›', 'Next entry (→)'], ['last-entry', '›|', 'Last entry (End)']] },
  { word: 'lane', before: [['previous-in-lane', '‹', 'Previous entry of this lane (Shift ←)']],
    after: [['next-in-lane', '›', 'Next entry of this lane (Shift →)']] },
  { word: 'turn', before: [['previous-turn', '‹', 'Previous turn ([)']], after: [['next-turn', '›', 'Next turn (])']] },
  { word: 'finding', before: [['previous-finding', '‹', 'Previous finding (Shift f)']],
    after: [['next-finding', '›', 'Next finding (f)']] },
];

/** Creates a button that calls a command of the page. */
export function commandButton(command, text, label) {
  const button = element('button', '', text);
  button.type = 'button';
  button.dataset.command = command;
  if (label !== text) button.setAttribute('aria-label', label.replace(/ \([^(]*\)$/, ''));
  button.title = label;
  return button;
}

function buttonGroup(label, ...children) {
  const group = element('div', 'button-group', ...children);
  group.setAttribute('role', 'group');
  group.setAttribute('aria-label', label);
  return group;
}

/**
 * Fills the bar of the step buttons. Returns the play button, the choice of its speed, and the
 * place for the step in short, which narrow pages show.
 */
export function fillStepControls(bar) {
  const play = commandButton('play', 'Play', 'Play (Space)');
  play.className = 'play';
  play.removeAttribute('aria-label');
  const speed = document.createElement('select');
  speed.setAttribute('aria-label', 'Steps a second');
  for (const steps of SPEEDS) speed.append(new Option(`${steps} / s`, String(steps)));
  speed.value = String(SPEED_AT_START);
  const groups = STEP_GROUPS.map(({ word, before, after }) => {
    const name = element('span', 'group-word', word);
    name.setAttribute('aria-hidden', 'true');
    return buttonGroup(word, ...before.map((row) => commandButton(...row)), name,
      ...after.map((row) => commandButton(...row)));
  });
  const now = element('p', 'step-now');
  now.setAttribute('aria-hidden', 'true');
  bar.append(now, groups[0], buttonGroup('play', play, speed), ...groups.slice(1));
  return { play, speed, now };
}

/** Fills the bar above the timeline. Returns the buttons of the two axes. */
export function fillTimelineControls(bar) {
  const axes = { steps: commandButton('axis-steps', 'steps', 'steps'), time: commandButton('axis-time', 'time', 'time') };
  axes.steps.title = 'Each entry has its place; long waits are wider (t)';
  axes.time.title = 'True to time (t)';
  const word = element('span', 'group-word', 'axis');
  word.setAttribute('aria-hidden', 'true');
  bar.append(
    buttonGroup('axis', word, axes.steps, axes.time),
    buttonGroup('zoom', commandButton('zoom-out', '−', 'Zoom out (-)'), commandButton('zoom-in', '+', 'Zoom in (+)'),
      commandButton('fit', 'whole run', 'Show the whole run (0)')),
  );
  return axes;
}
