// Starts the page.
import { decodeRecording } from './decode.js';

const recording = decodeRecording(JSON.parse(document.getElementById('recording').textContent));
document.title = recording.title;
document.getElementById('timeline').textContent = `${recording.entryCount} entries`;
