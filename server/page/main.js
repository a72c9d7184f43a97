// Starts the page, and connects its parts.
import { fillStepControls, fillTimelineControls } from './controls/controls.js';
import { decodeRecording } from './recording/decode.js';
import { FINDING_HELP } from './words/finding_help.js';
import { FindingsPanel } from './panels/findings_panel.js';
import { element } from './words/formatting.js';
import { fillHelp } from './panels/help.js';
import { commandOf } from './controls/keys.js';
import { KIND_STYLES } from './words/kinds.js';
import { Legend } from './panels/legend.js';
import { entryOfLink, linkOf } from './controls/links.js';
import { entryInLane, findingBeside, nearestInLane, turnBeside } from './controls/navigation.js';
import { Player } from './controls/player.js';
import { Replay } from './recording/replay.js';
import { SearchBox } from './panels/search_box.js';
import { describeEntry } from './words/sentences.js';
import { isErrorEntry } from './timeline/spans.js';
import { StepPanel } from './panels/step_panel.js';
import { summaryOf } from './panels/summary.js';
import { Tables } from './tables/tables.js';
import { storedValue, storeValue, Theme } from './controls/theme.js';
import { Timeline } from './timeline/timeline.js';

/** The factor of one zoom step. */
const ZOOM_STEP = 1.5;

/** How long an idle slice builds snapshots, in milliseconds. */
const BUILD_SLICE_MS = 12;

/** The address of the page follows the selected entry after this time. Browsers limit how often it may change. */
const LINK_DELAY_MS = 300;

/** A shorter recording, in characters, is shown at once: about 50,000 entries. */
const LARGE_RECORDING = 500_000;

/** A browser that paints has a frame within this time. */
const FRAME_WAIT_MS = 100;

const EXPLANATION_KEY = 'halloo-explanation';

const part = (id) => document.getElementById(id);

/** The page of a recording with entries. */
class Page {
  constructor(recording, theme) {
    this.recording = recording;
    this.theme = theme;
    this.selected = 0;
    this.axis = 'steps';
    this.replay = new Replay(recording);
    this.makeParts();
    this.commands = this.makeCommands();
    document.addEventListener('keydown', (event) => this.onKey(event));
    document.addEventListener('click', (event) => this.onClick(event));
    addEventListener('hashchange', ({ newURL }) => this.followLink(new URL(newURL).hash));
  }

  makeParts() {
    const { recording } = this;
    const onSelect = (index) => this.select(index);
    // What is beside the timeline comes first: it decides how high the timeline is.
    this.legend = new Legend(part('legend'), recording);
    this.axes = fillTimelineControls(part('timeline-controls'));
    this.timeline = new Timeline(part('timeline'), recording, { onSelect });
    this.tables = new Tables(part('tables'), recording, { onSelect, onSelectLane: (lane) => this.selectLane(lane) });
    this.step = new StepPanel(part('step'), recording, {
      describe: (index) => describeEntry(recording, this.replay.before(index), index),
      turnOf: (index) => this.replay.after(index).loops[recording.loopOf(index)].turn,
      glyphOf: (index) => (
        { category: KIND_STYLES[recording.kindName(index)].category, isError: isErrorEntry(recording, index) }
      ),
    });
    this.findings = new FindingsPanel(part('findings'), recording, FINDING_HELP, { onSelect });
    this.searchBox = new SearchBox(part('search'), recording, {
      selected: () => this.selected,
      onTarget: ({ lane, index }) => (lane === undefined ? this.select(index) : this.selectLane(lane)),
    });
    const step = () => {
      this.select(this.selected + 1);
      return this.selected < recording.entryCount - 1;
    };
    const { now, ...playControls } = fillStepControls(part('step-controls'));
    this.now = now;
    this.player = new Player(playControls, { step });
    this.theme.onChange = () => this.redraw();
    part('keys').hidden = false;
    if (recording.findings.length === 0) {
      for (const button of document.querySelectorAll('[data-command$="-finding"]')) button.disabled = true;
    }
  }

  makeCommands() {
    const { recording, timeline } = this;
    const last = recording.entryCount - 1;
    const inLane = (direction) => this.select(entryInLane(recording, this.selected, direction));
    const finding = (direction) => {
      if (recording.findings.length > 0) this.select(findingBeside(recording.findings, this.selected, direction));
    };
    return {
      'next-entry': () => this.select(this.selected + 1),
      'previous-entry': () => this.select(this.selected - 1),
      'next-in-lane': () => inLane(1),
      'previous-in-lane': () => inLane(-1),
      'next-turn': () => this.select(turnBeside(recording, this.selected, 1)),
      'previous-turn': () => this.select(turnBeside(recording, this.selected, -1)),
      'next-finding': () => finding(1),
      'previous-finding': () => finding(-1),
      'first-entry': () => this.select(0),
      'last-entry': () => this.select(last),
      'play': () => this.player.toggle(),
      'lane-up': () => timeline.moveLane(-1),
      'lane-down': () => timeline.moveLane(1),
      'zoom-in': () => timeline.zoomBy(ZOOM_STEP),
      'zoom-out': () => timeline.zoomBy(1 / ZOOM_STEP),
      'fit': () => timeline.fit(),
      'axis': () => this.setAxis(this.axis === 'steps' ? 'time' : 'steps'),
      'axis-steps': () => this.setAxis('steps'),
      'axis-time': () => this.setAxis('time'),
      'search': () => this.searchBox.focus(),
      'theme': () => this.theme.next(),
      'help': () => part('help').showModal(),
      'escape': () => this.escape(),
    };
  }

  start() {
    this.legend.redraw();
    this.setAxis('steps');
    const { findings } = this.recording;
    this.select(findings.length > 0 ? findingBeside(findings, -1, 1) : 0);
    this.followLink(location.hash);
    const finding = findings.find(({ index }) => index === this.selected);
    this.timeline.showSurroundings(finding?.unit === 'ns' ? finding.number : 0);
    this.buildInSlices();
  }

  /** Builds the snapshots of the replay while the page has nothing else to do. */
  buildInSlices() {
    const whenIdle = window.requestIdleCallback ?? ((slice) => setTimeout(slice, BUILD_SLICE_MS));
    whenIdle(() => {
      if (!this.replay.build(BUILD_SLICE_MS)) this.buildInSlices();
    });
  }

  select(index) {
    const { recording } = this;
    this.selected = Math.max(0, Math.min(index, recording.entryCount - 1));
    this.timeline.select(this.selected, { reveal: true });
    this.step.show(this.selected, !this.player.isPlaying);
    this.now.textContent = `${recording.numberOf(this.selected)} · ${this.step.title.textContent}`;
    this.tables.show(this.replay.after(this.selected), this.selected);
    this.findings.show(this.selected);
    showProblem('');
    this.linkTimer ??= setTimeout(() => this.writeLink(), LINK_DELAY_MS);
  }

  selectLane(lane) {
    this.select(nearestInLane(this.recording, lane, this.selected));
    this.timeline.revealLane(lane);
  }

  writeLink() {
    this.linkTimer = null;
    try {
      history.replaceState(null, '', linkOf(this.recording, this.selected));
    } catch {
      // The address stays as it is: the step panel has the link, too.
    }
  }

  /** `fragment` is that of the event: `writeLink` may have replaced the address before the event came. */
  followLink(fragment) {
    // The skip link has a fragment, too.
    if (part(fragment.slice(1)) !== null) return;
    const found = entryOfLink(this.recording, fragment);
    if (found?.problem) showProblem(found.problem);
    else if (found) this.select(found.index);
  }

  setAxis(axis) {
    this.axis = axis;
    this.timeline.setAxis(axis);
    for (const [name, button] of Object.entries(this.axes)) button.setAttribute('aria-pressed', String(name === axis));
  }

  redraw() {
    this.timeline.redraw();
    this.legend.redraw();
    this.tables.redraw();
    this.step.redraw();
  }

  escape() {
    this.player.stop();
    this.searchBox.close();
    document.activeElement?.blur();
  }

  onKey(event) {
    const command = commandOf(event);
    if (command === null) return;
    event.preventDefault();
    this.commands[command]();
  }

  onClick(event) {
    const command = event.target.closest?.('[data-command]')?.dataset.command;
    if (command !== undefined) this.commands[command]();
  }
}

function showProblem(text) {
  const problem = part('page-problem');
  problem.textContent = text;
  problem.hidden = text === '';
}

/** Reports why the page cannot play, and removes what would play. */
function showOnlyProblem(text) {
  showProblem(text);
  part('page-main').hidden = true;
  part('step-controls').hidden = true;
}

/** Opens the explanation at the first visit, if it leaves room for the timeline. */
function openExplanation() {
  const explanation = part('explanation');
  const stored = storedValue(EXPLANATION_KEY);
  explanation.open = stored === null ? matchMedia('(min-width: 1100px)').matches : stored === 'open';
  // The click comes before the change.
  explanation.querySelector('summary').addEventListener('click', () => {
    storeValue(EXPLANATION_KEY, explanation.open ? 'closed' : 'open');
  });
}

function showHead(recording) {
  const [finding] = recording.findings;
  document.title = finding ? `${recording.title}: ${finding.kind}` : recording.title;
  part('page-title').textContent = recording.title;
  part('page-summary').replaceChildren(...summaryOf(recording).flatMap((text, at) => (
    at === 0 ? [element('span', '', text)] : [' · ', element('span', '', text)]
  )));
}

/** Resolves when the browser has painted what is there, or has no frame for it: a hidden tab has none. */
function painted() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(resolve));
    setTimeout(resolve, FRAME_WAIT_MS);
  });
}

async function startPage() {
  const theme = new Theme(part('theme'));
  try {
    const text = part('recording').textContent;
    const isLarge = text.length > LARGE_RECORDING;
    if (isLarge) await painted();
    const recording = decodeRecording(JSON.parse(text));
    showHead(recording);
    if (isLarge) await painted();
    if (recording.entryCount === 0) {
      showOnlyProblem('The recording has no entry: the loop noted nothing. Record at level All, and longer.');
    } else {
      new Page(recording, theme).start();
    }
  } catch (error) {
    part('page-summary').textContent = '';
    showOnlyProblem(`The page cannot show the recording: ${error.message}; write it again with halloo view --html.`);
    throw error;
  }
}

openExplanation();
fillHelp(part('help'));
startPage();
